//! Random calls checked against a map. Keys consist of few segments, so that one is often a
//! folder of another.

use std::{collections::BTreeMap, sync::Arc};

use futures::FutureExt;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    Fixture,
    tools::{key, leaf, put, read_all},
};
use crate::Blobs;

const CALLS: usize = 400;

#[derive(Clone, Debug)]
enum Call {
    Put(String, u8),
    Delete(Vec<String>),
    Read(String),
    List { folder: String, after: String },
    Reopen,
}

fn keys() -> impl Strategy<Value = String> {
    let long = prop_oneof![Just("l".repeat(199)), Just("l".repeat(200)), Just("l".repeat(201))];
    let segment = prop_oneof![8 => "[-a0]{1,2}", 1 => long];
    proptest::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"))
}

fn calls() -> impl Strategy<Value = Call> {
    let folder = prop_oneof![keys().prop_map(|key| format!("{key}/")), Just(String::new())];
    prop_oneof![
        4 => (keys(), any::<u8>()).prop_map(|(key, byte)| Call::Put(key, byte)),
        2 => proptest::collection::vec(keys(), 0..4).prop_map(Call::Delete),
        2 => keys().prop_map(Call::Read),
        2 => (folder, keys()).prop_map(|(folder, after)| Call::List { folder, after }),
        1 => Just(Call::Reopen),
    ]
}

impl Call {
    fn with_leaves(self, fixture: &dyn Fixture) -> Self {
        match self {
            Self::Put(key, byte) => Self::Put(leaf(fixture, &key), byte),
            Self::Delete(keys) => Self::Delete(keys.iter().map(|key| leaf(fixture, key)).collect()),
            Self::Read(key) => Self::Read(leaf(fixture, &key)),
            Self::List { .. } | Self::Reopen => self,
        }
    }
}

pub(super) async fn random_calls(fixture: Arc<dyn Fixture>) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut blobs = fixture.open().await;
    let mut model = BTreeMap::new();
    for number in 0..CALLS {
        let call = calls().new_tree(&mut runner).unwrap().current().with_leaves(&*fixture);
        if let Call::Reopen = call {
            drop(blobs);
            blobs = fixture.open().await;
        } else {
            let checked = std::panic::AssertUnwindSafe(step(&*blobs, &mut model, &call)).catch_unwind().await;
            assert!(checked.is_ok(), "call {number}: {call:?} differs from the model, see above");
        }
    }
}

async fn step(blobs: &dyn Blobs, model: &mut BTreeMap<String, u8>, call: &Call) {
    match call {
        Call::Put(at, byte) => {
            put(blobs, at, vec![*byte; 10]).await;
            model.insert(at.clone(), *byte);
        }
        Call::Delete(keys) => {
            let named: Vec<_> = keys.iter().map(|at| key(at)).collect();
            assert!(blobs.delete(&named).await.unwrap().is_empty());
            model.retain(|at, _| !keys.contains(at));
        }
        Call::Read(at) => {
            let expected = model.get(at).map(|byte| vec![*byte; 10]);
            assert_eq!(read_all(blobs, at).await, expected);
        }
        Call::List { folder, after } => {
            let page = blobs.list(folder, Some(&key(after))).await.unwrap();
            let keys: Vec<_> = page.blobs.iter().map(|(key, _)| key.as_str()).collect();
            let behind = model.keys().map(String::as_str).filter(|at| *at > after.as_str());
            let expected: Vec<_> = behind.filter(|at| at.starts_with(folder)).collect();
            assert_eq!(keys, expected);
        }
        Call::Reopen => {}
    }
}
