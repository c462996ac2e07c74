//! What of the repository is in the program: the contract (`wit/`), the SDKs (`plugins/sdk*/`) and the templates
//! (`plugins/templates/`), so that a plugin can be written and built away from the repository.

/// Path in the repository, and text.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/packed.rs"));

/// The files below a folder of the repository, by their path in it.
pub(super) fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, *text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_packed() {
        assert!(below("wit").any(|(path, text)| path == "world.wit" && text.contains("world handler-plugin")));
        assert_eq!(below("wi").count(), 0);
    }
}
