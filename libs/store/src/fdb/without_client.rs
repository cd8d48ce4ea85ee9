//! The types of a build without FoundationDB's client. The network does not start there, and nothing opens a store without
//! it, so neither type has a value.

use async_trait::async_trait;

use super::Settings;
use crate::{Batch, Commit, Error, Key, Result, Snapshot, Store, Value};

/// The network of the client, which this build does not have.
pub enum Network {}

impl Network {
    pub fn start() -> Result<Self> {
        Err(Error::Settings { reason: "this build does not include FoundationDB".to_owned() })
    }
}

/// A store on FoundationDB, which this build cannot open.
pub enum FdbStore {}

impl FdbStore {
    pub async fn open(network: &Network, _settings: Settings) -> Result<Self> {
        match *network {}
    }

    pub async fn close(&self) {
        match *self {}
    }
}

#[async_trait]
impl Store for FdbStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        match *self {}
    }

    async fn commit(&self, _batch: Batch) -> Result<Commit> {
        match *self {}
    }

    async fn sync(&self) -> Result<()> {
        match *self {}
    }

    async fn changed(&self, _key: &Key, _seen: Option<&Value>) -> Result<()> {
        match *self {}
    }

    fn clears_ranges_at_once(&self) -> bool {
        match *self {}
    }

    fn is_remote(&self) -> bool {
        match *self {}
    }
}
