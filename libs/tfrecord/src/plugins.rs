//! The plugins of tags. A writer names the plugin of a tag only with the first value of the tag in a file, so the plugin
//! is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Tags whose plugins are kept. Values of further tags are read by their type alone.
const MAX_TAGS: usize = 20_000;

/// The kind of a tag's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plugin {
    Images,
    Audio,
    Histograms,
    Text,
    /// The data describes the display, or a graph of operations, rather than a series.
    Hidden,
}

impl Plugin {
    /// The plugin with a name; `None` if the type of a value says enough.
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"images" => Self::Images,
            b"audio" => Self::Audio,
            b"histograms" => Self::Histograms,
            b"text" => Self::Text,
            b"graphs" | b"graph_run_metadata" | b"graph_run_metadata_graph" | b"graph_keras_model" => {
                Self::Hidden
            }
            b"custom_scalars" => Self::Hidden,
            _ => return None,
        })
    }
}

/// The plugins of the tags of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plugins(BTreeMap<String, Plugin>);

impl Plugins {
    /// The plugin of a tag. `name` is the plugin in the current value, if any. The first name counts.
    pub(crate) fn of_tag(&mut self, tag: &str, name: &[u8]) -> Option<Plugin> {
        if let Some(known) = self.0.get(tag) {
            return Some(*known);
        }
        let named = Plugin::named(name)?;
        if self.0.len() < MAX_TAGS {
            self.0.insert(tag.to_owned(), named);
        }
        Some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_tag_names_its_plugin() {
        let mut plugins = Plugins::default();
        assert_eq!(plugins.of_tag("a", b"images"), Some(Plugin::Images));
        assert_eq!(plugins.of_tag("a", b""), Some(Plugin::Images));
        assert_eq!(plugins.of_tag("loss", b"scalars"), None);
        let kept = serde_json::to_string(&plugins).unwrap();
        assert_eq!(kept, r#"{"a":"images"}"#);
        assert_eq!(serde_json::from_str::<Plugins>(&kept).unwrap(), plugins);
    }
}
