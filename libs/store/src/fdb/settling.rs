//! Cases of what no server can be made to do on command: an answer that is lost, and a commit that comes too late.

use super::FdbStore;
use super::token::Token;
use crate::{Key, Range, Store, Value};

const KEY: &str = "settling";

impl FdbStore {
    /// What was applied is found by its token, with the stamp that its answer would have told.
    pub async fn finds_what_was_applied(&self) {
        let (transaction, token) = self.written().await;
        let stamp = transaction.get_versionstamp();
        transaction.commit().await.expect("it commits");
        let stamp = stamp.await.expect("it has a stamp");
        for _ in 0..2 {
            assert_eq!(self.shared.settle(&token).await.map(|found| found.0.to_vec()), Some(stamp.to_vec()));
        }
        assert!(self.value().await.is_some());
    }

    /// What was not applied when it was asked for never is.
    pub async fn shuts_out_what_was_not(&self) {
        let (transaction, token) = self.written().await;
        for _ in 0..2 {
            assert_eq!(self.shared.settle(&token).await, None);
        }
        let late = transaction.commit().await.expect_err("it is shut out");
        assert!(late.is_retryable_not_committed(), "{late}");
        assert_eq!(self.value().await, None);
    }

    /// A lane that goes on leaves one token, and a store that is closed none.
    pub async fn leaves_no_tokens(&self) {
        for turn in 0..200_u8 {
            self.commit(crate::conformance::batch(|b| b.set(KEY, vec![turn]))).await.expect("it commits");
        }
        let tokens = self.tokens_count().await;
        assert!((1..=64).contains(&tokens), "{tokens} tokens");
        self.close().await;
        assert_eq!(self.tokens_count().await, 0);
    }

    /// A transaction at the point where it is sent.
    async fn written(&self) -> (foundationdb::Transaction, Token) {
        let transaction = self.shared.begin().expect("a transaction");
        self.shared.read_version(&transaction).await.expect("a version");
        transaction.set(&self.shared.space.key(KEY.as_bytes()), b"written");
        let token = self.lanes.turn().await.expect("a lane").token(&self.shared);
        token.write(&transaction).expect("it is written");
        (transaction, token)
    }

    async fn value(&self) -> Option<Value> {
        self.snapshot().await.expect("a snapshot").get(&Key::from(KEY)).await.expect("it is read")
    }

    async fn tokens_count(&self) -> usize {
        let Range { start, end } = Range::prefix(self.shared.space.tokens().to_vec());
        let transaction = self.shared.begin().expect("a transaction");
        let range = foundationdb::RangeOption::from((&start[..], &end[..]));
        transaction.get_range(&range, 1, true).await.expect("they are read").len()
    }
}
