//! Many writers of one key with slow commits.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::join_all;

use super::*;
use crate::Check;

const COMMIT: Duration = Duration::from_millis(100);

/// A store of one number, which every commit increments. Like a remote store, it detects
/// conflicts late.
#[derive(Default)]
struct SlowStore(Mutex<u64>);

struct SlowSnapshot(u64);

fn value(number: u64) -> Value {
    Value::copy_from_slice(&number.to_be_bytes())
}

#[async_trait]
impl Store for SlowStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(SlowSnapshot(*self.0.lock().unwrap())))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        tokio::time::sleep(COMMIT).await;
        let mut number = self.0.lock().unwrap();
        let [Check::Value { expected, .. }] = &batch.checks[..] else { panic!("expected one checked key") };
        if *expected != Some(value(*number)) {
            return Ok(Commit::Conflict);
        }
        *number += 1;
        Ok(Commit::Done { version: Version(*number), stamp: Version(*number).stamp(0) })
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, _: &Key, _: Option<&Value>) -> Result<()> {
        Ok(())
    }

    fn clears_ranges_at_once(&self) -> bool {
        false
    }

    fn is_remote(&self) -> bool {
        false
    }
}

#[async_trait]
impl Snapshot for SlowSnapshot {
    async fn get(&self, _: &Key) -> Result<Option<Value>> {
        Ok(Some(value(self.0)))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(value(self.0)); keys.len()])
    }

    async fn scan(&self, _: &Range, _: Scan) -> Result<Page> {
        Ok(Page::default())
    }

    fn version(&self) -> Version {
        Version(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn no_writer_gives_up_when_commits_are_slow() {
    const WRITERS: usize = 128;
    const TRANSACTIONS: usize = 8;
    let store = Arc::new(SlowStore::default());
    let writers = (0..WRITERS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..TRANSACTIONS {
                let written = transact(store.as_ref(), async |mut transaction: Transaction| {
                    let read = transaction.get(&"number".into()).await?;
                    transaction.batch().set("number", read.unwrap_or_default());
                    Ok::<_, Error>((transaction, ()))
                });
                written.await.expect("the attempts suffice");
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("no writer panics");
    }
    assert_eq!(*store.0.lock().unwrap(), (WRITERS * TRANSACTIONS) as u64);
}
