//! Trees of a stream, folded from its entries: one for each top-level key, as soon as the next key
//! arrives, so that memory is bounded by the largest tree.

use std::collections::VecDeque;

use super::tree_stream::{Key, Leaf, TreeDecoder, TreeEntry, TreeError};

/// A node of a tree. Members and elements keep the order in which they arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Integer(i64),
    /// A float, finite or not.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A map.
    Map(Vec<(Key, Self)>),
}

impl Tree {
    /// Returns the member with this text key, if this is a map that has one.
    ///
    /// ```
    /// # use matyan_sdk::reading::{Key, Tree};
    /// let props = Tree::Map(vec![(Key::Text("name".into()), Tree::Text("a".into()))]);
    /// assert_eq!(props.member("name"), Some(&Tree::Text("a".into())));
    /// assert_eq!(props.member("tags"), None);
    /// ```
    pub fn member(&self, key: &str) -> Option<&Self> {
        let Self::Map(members) = self else { return None };
        members.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// Returns the text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the doubles of a number array, which is a map with `type`, `shape`, `dtype` and the
    /// bytes in `blob`.
    pub fn doubles(&self) -> Option<Vec<f64>> {
        let Some(Self::Bytes(blob)) = self.member("blob") else { return None };
        let (doubles, rest) = blob.as_chunks::<8>();
        rest.is_empty().then(|| doubles.iter().map(|double| f64::from_le_bytes(*double)).collect())
    }

    /// Converts to the form that the client of Matyan 0.3 returns: lists are maps with integer keys,
    /// and everything without a value inside is missing. `None` if nothing is left.
    ///
    /// ```
    /// # use matyan_sdk::reading::{Key, Tree};
    /// let list = Tree::List(vec![Tree::Integer(5), Tree::Map(vec![])]);
    /// assert_eq!(list.published(), Some(Tree::Map(vec![(Key::Index(0), Tree::Integer(5))])));
    /// assert_eq!(Tree::List(vec![]).published(), None);
    /// ```
    pub fn published(self) -> Option<Self> {
        let members: Vec<_> = match self {
            Self::List(elements) => (0..).map(Key::Index).zip(elements).collect(),
            Self::Map(members) => members,
            leaf => return Some(leaf),
        };
        let members = members.into_iter().filter_map(|(key, value)| Some((key, value.published()?)));
        let members: Vec<_> = members.collect();
        (!members.is_empty()).then_some(Self::Map(members))
    }
}

impl From<Leaf> for Tree {
    fn from(leaf: Leaf) -> Self {
        match leaf {
            Leaf::Null => Self::Null,
            Leaf::Bool(value) => Self::Bool(value),
            Leaf::Integer(value) => Self::Integer(value),
            Leaf::Float(value) => Self::Float(value),
            Leaf::Text(value) => Self::Text(value),
            Leaf::Bytes(value) => Self::Bytes(value),
            Leaf::ListStart => Self::List(Vec::new()),
            Leaf::EmptyMap => Self::Map(Vec::new()),
        }
    }
}

/// Folds the entries of a body into trees. A repeated top-level key starts another tree.
///
/// ```
/// use matyan_sdk::reading::{Key, Tree, TreeFolder};
///
/// let mut folder = TreeFolder::default();
/// folder.push(b"\x04\0\0\0a\xfeb\xfe\x01\0\0\0\x00")?;
/// assert_eq!(folder.next_tree(), None, "more of `a` may follow");
/// folder.finish()?;
/// let member = Tree::Map(vec![(Key::Text("b".into()), Tree::Null)]);
/// assert_eq!(folder.next_tree(), Some((Key::Text("a".into()), member)));
/// # Ok::<(), matyan_sdk::reading::TreeError>(())
/// ```
#[derive(Debug, Default)]
pub struct TreeFolder {
    decoder: TreeDecoder,
    complete: VecDeque<(Key, Tree)>,
    unfinished: Option<(Key, Tree)>,
}

impl TreeFolder {
    /// Adds a piece of the body.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TreeError> {
        self.decoder.push(piece);
        while let Some(entry) = self.decoder.next_entry()? {
            self.add(entry)?;
        }
        Ok(())
    }

    /// Marks the end of the body, which completes the last tree.
    pub fn finish(&mut self) -> Result<(), TreeError> {
        self.decoder.finish()?;
        self.complete.extend(self.unfinished.take());
        Ok(())
    }

    /// Takes the next complete tree.
    pub fn next_tree(&mut self) -> Option<(Key, Tree)> {
        self.complete.pop_front()
    }

    fn add(&mut self, TreeEntry { path, leaf }: TreeEntry) -> Result<(), TreeError> {
        let mut path = path.into_iter();
        // The flag of a root without members, which has nothing to fold.
        let Some(top) = path.next() else { return Ok(()) };
        let path = path.as_slice();
        let tree = match &mut self.unfinished {
            Some((key, tree)) if *key == top && !path.is_empty() => tree,
            unfinished => {
                self.complete.extend(unfinished.take());
                &mut unfinished.insert((top, Tree::Map(Vec::new()))).1
            }
        };
        insert(tree, path, leaf)
    }
}

/// Inserts a leaf. All entries of a node stay together, so a known key is always the last one.
fn insert(mut node: &mut Tree, path: &[Key], leaf: Leaf) -> Result<(), TreeError> {
    for key in path {
        node = match node {
            Tree::List(elements) => {
                let Key::Index(index) = key else { return Err(TreeError::Path) };
                let index = usize::try_from(*index).map_err(|_| TreeError::Path)?;
                if index == elements.len() {
                    elements.push(Tree::Map(Vec::new()));
                }
                if index + 1 != elements.len() {
                    return Err(TreeError::Path);
                }
                elements.last_mut().ok_or(TreeError::Path)?
            }
            Tree::Map(members) => {
                if members.last().is_none_or(|(last, _)| last != key) {
                    members.push((key.clone(), Tree::Map(Vec::new())));
                }
                &mut members.last_mut().ok_or(TreeError::Path)?.1
            }
            _ => return Err(TreeError::Path),
        };
    }
    *node = leaf.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value as Json;

    use super::*;

    fn fold(body: &[u8], piece: usize) -> Result<Vec<(Key, Tree)>, TreeError> {
        let mut folder = TreeFolder::default();
        for piece in body.chunks(piece) {
            folder.push(piece)?;
        }
        folder.finish()?;
        Ok(std::iter::from_fn(|| folder.next_tree()).collect())
    }

    fn vectors(name: &str) -> Json {
        let path = Path::new("../../tests/vectors").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn tree(json: &Json) -> Tree {
        match json {
            Json::Null => Tree::Null,
            Json::Bool(value) => Tree::Bool(*value),
            Json::Number(value) => Tree::Integer(value.as_i64().unwrap()),
            Json::String(text) => Tree::Text(text.clone()),
            Json::Array(list) => Tree::List(list.iter().map(tree).collect()),
            Json::Object(map) => match map.iter().next().map(|(key, value)| (key.as_str(), value)) {
                Some(("$f64", _)) => {
                    let bits = u64::from_str_radix(map["bits"].as_str().unwrap(), 16).unwrap();
                    Tree::Float(f64::from_bits(bits))
                }
                Some(("$i64", text)) => Tree::Integer(text.as_str().unwrap().parse().unwrap()),
                Some(("$bytes", text)) => Tree::Bytes(hex::decode(text.as_str().unwrap()).unwrap()),
                Some(("$map", pairs)) => {
                    let key = |json: &Json| match json {
                        Json::String(text) => Key::Text(text.clone()),
                        other => Key::Index(other.as_i64().unwrap()),
                    };
                    Tree::Map(
                        pairs.as_array().unwrap().iter().map(|it| (key(&it[0]), tree(&it[1]))).collect(),
                    )
                }
                _ => Tree::Map(map.iter().map(|(key, it)| (Key::Text(key.clone()), tree(it))).collect()),
            },
        }
    }

    #[test]
    fn recorded_trees_fold_back() {
        let vectors = vectors("streaming_codec.json");
        let mut checked = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let Tree::Map(expected) = tree(&case["tree"]) else { continue };
            if name.contains("empty_string_key") || case["tree"].to_string().contains("$flag") {
                continue;
            }
            let body = hex::decode(case["encoded_hex"].as_str().unwrap()).unwrap();
            for piece in [1, 9, body.len().max(1)] {
                let found = fold(&body, piece).unwrap();
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{name}");
            }
            checked += 1;
        }
        assert!(checked > 10, "{checked}");
    }

    #[test]
    fn trees_come_one_by_one() {
        let vectors = vectors("streaming_codec.json");
        for case in vectors["stream_cases"].as_array().unwrap() {
            let body = hex::decode(case["encoded_hex"].as_str().unwrap()).unwrap();
            let found = fold(&body, 3).unwrap();
            let expected = case["trees"].as_array().unwrap().iter().filter_map(|json| match tree(json) {
                Tree::Map(members) => Some(members),
                _ => None,
            });
            let expected: Vec<_> = expected.flatten().collect();
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", case["name"]);
        }
    }

    #[test]
    fn lists_with_gaps_are_refused() {
        // A list flag at `a`, then its element 1 without an element 0.
        let body = "02000000 61fe 01000000 06 0c000000 61fefe0000000000000001fe 01000000 00";
        assert_eq!(fold(&hex::decode(body.replace(' ', "")).unwrap(), 64), Err(TreeError::Path));
    }
}
