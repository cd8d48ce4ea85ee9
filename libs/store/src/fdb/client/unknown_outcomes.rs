//! Tests of situations that no server can produce on command: a lost answer, and a commit that
//! arrives too late.

use super::FdbStore;
use super::token::Token;
use crate::{Key, Range, Store, Value};

const KEY: &str = "settling";

impl FdbStore {
    /// An applied commit is found by its token, with the stamp that the answer would have
    /// carried.
    pub async fn check_applied_commit_is_found(&self) {
        let (transaction, token) = self.prepare_commit().await;
        let stamp = transaction.get_versionstamp();
        transaction.commit().await.expect("the commit succeeds");
        let stamp = stamp.await.expect("the commit has a stamp");
        for _ in 0..2 {
            assert_eq!(
                token.resolve_outcome(&self.cluster).await.map(|found| found.0.to_vec()),
                Some(stamp.to_vec())
            );
        }
        assert!(self.stored_value().await.is_some());
    }

    /// A commit that was not applied when its outcome was queried never will be.
    pub async fn check_unapplied_commit_is_fenced(&self) {
        let (transaction, token) = self.prepare_commit().await;
        for _ in 0..2 {
            assert_eq!(token.resolve_outcome(&self.cluster).await, None);
        }
        let late = transaction.commit().await.expect_err("the late commit conflicts with the token");
        assert!(late.is_retryable_not_committed(), "{late}");
        assert_eq!(self.stored_value().await, None);
    }

    /// A lane keeps one token at a time, and a closed store leaves none.
    pub async fn check_tokens_are_removed(&self) {
        for turn in 0..200_u8 {
            self.commit(crate::conformance::batch(|b| b.set(KEY, vec![turn])))
                .await
                .expect("the commit succeeds");
        }
        let tokens = self.count_tokens().await;
        assert!((1..=64).contains(&tokens), "{tokens} tokens");
        self.close().await;
        assert_eq!(self.count_tokens().await, 0);
    }

    /// A transaction with its writes and its token, not yet committed.
    async fn prepare_commit(&self) -> (foundationdb::Transaction, Token) {
        let transaction = self.cluster.begin().expect("a transaction can start");
        self.cluster.read_version(&transaction).await.expect("the cluster gives a version");
        transaction.set(&self.cluster.space.key(KEY.as_bytes()), b"written");
        let token = self.lanes.acquire().await.expect("a lane is free").next_token(&self.cluster.space);
        token.write(&transaction).expect("the token can be added");
        (transaction, token)
    }

    async fn stored_value(&self) -> Option<Value> {
        self.snapshot()
            .await
            .expect("a snapshot can be taken")
            .get(&Key::from(KEY))
            .await
            .expect("the key can be read")
    }

    async fn count_tokens(&self) -> usize {
        let Range { start, end } = Range::prefix(self.cluster.space.tokens().to_vec());
        let transaction = self.cluster.begin().expect("a transaction can start");
        let range = foundationdb::RangeOption::from((&start[..], &end[..]));
        transaction.get_range(&range, 1, true).await.expect("the tokens can be read").len()
    }
}
