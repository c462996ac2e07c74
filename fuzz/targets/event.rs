//! What a publisher sends is refused, or goes out as it came in, however often.

#![no_main]

use busway::event::{Event, NewEvent};
use libfuzzer_sys::fuzz_target;

fn admit(text: &str) -> Option<Event> {
    NewEvent::from_json(text).ok()?.admit_from_outside().ok()
}

fn round(event: &Event) {
    let text = event.to_json();
    // It is one line of a stream of lines.
    assert!(!text.contains(['\n', '\r']), "{text}");
    let again = admit(&text).unwrap_or_else(|| panic!("was admitted once: {text}"));
    assert_eq!(again.to_json(), text);
    assert_eq!(again.weight(), event.weight());
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(event) = admit(text) {
        round(&event);
    }
    let Ok(batch) = serde_json::from_str::<Vec<NewEvent>>(text) else { return };
    for event in batch {
        if let Ok(event) = event.admit_from_outside() {
            round(&event);
        }
    }
});
