//! The flags that choose events, and the query parameters they become.

/// Which events: all criteria given must hold.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Which events")]
pub(super) struct FilterArgs {
    /// Types, any of them; `*` is any run of characters, `?` one.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    types: Vec<String>,
    /// Sources, any of them; `*` and `?` as in types.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    sources: Vec<String>,
    /// Tags, all of them.
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    tags: Vec<String>,
    /// Tags, none of them.
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    exclude_tags: Vec<String>,
    /// A filter plugin that must match.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// The filter plugin's parameters.
    #[arg(long, value_name = "JSON", requires = "filter")]
    params: Option<String>,
}

impl FilterArgs {
    /// The query parameters of the API.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let lists = [
            ("types", &self.types),
            ("sources", &self.sources),
            ("tags", &self.tags),
            ("exclude_tags", &self.exclude_tags),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, list.join(",")));
        let plugin = [("filter", &self.filter), ("params", &self.params)];
        lists.chain(plugin.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_becomes_a_parameter() {
        let args = FilterArgs {
            types: vec!["task.*".into(), "tool.*".into()],
            filter: Some("urgent-only".into()),
            params: Some("{}".into()),
            ..Default::default()
        };
        let expected = [("types", "task.*,tool.*"), ("filter", "urgent-only"), ("params", "{}")];
        assert_eq!(args.query(), expected.map(|(name, value)| (name, value.to_string())));
        assert!(FilterArgs::default().query().is_empty());
    }
}
