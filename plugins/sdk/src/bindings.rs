//! What `wit-bindgen` generates from `wit/`: one module a world, the second borrowing its types from the first, so that an
//! event is the same type for a handler and a filter. Nothing here is written by hand, and nothing but this crate should name it.

// The generated code lowers and lifts values across the component boundary by hand, through pointers.
#![allow(unsafe_code)]
#![allow(missing_docs, unreachable_pub, unused_qualifications, rustdoc::all)]

pub mod handler {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "handler-plugin",
        generate_all,
        additional_derives: [PartialEq, Eq],
        // The macro that exports a plugin runs in the plugin's crate.
        pub_export_macro: true,
        export_macro_name: "export_handler",
    });
}

pub mod filter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "filter-plugin",
        with: {
            "busway:plugin/types@0.1.0": crate::bindings::handler::busway::plugin::types,
            "busway:plugin/logging@0.1.0": crate::bindings::handler::busway::plugin::logging,
        },
        pub_export_macro: true,
        export_macro_name: "export_filter",
    });
}
