//! Measures the time to find a caller by a token that the cache knows, and to decide about its call, on one core:
//! at most a microsecond, so that access control does not slow down ingestion. Run it with `cargo run --release -p
//! matyan-access --example resolve_speed`.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use async_trait::async_trait;
use matyan_access::{AccessToken, Caller, CallerCache, CallerSource, LookupError, Role, TokenDigest};
use matyan_proto::common::v1::Access;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Tokens that the cache knows.
const TOKENS: u64 = 1_000;
const ROUNDS: u32 = 200;

/// A source to which each token belongs to a training node of one project.
struct Nodes;

#[async_trait]
impl CallerSource for Nodes {
    async fn find(&self, _: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        Ok(Some(Caller::new("node", [(Some("speech"), Role::Ingest)].into_iter().collect())))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), LookupError> {
    let tokens: Vec<_> =
        (0..TOKENS).map(|seed| AccessToken::generate(&mut StdRng::seed_from_u64(seed))).collect();
    let cache = CallerCache::new(Nodes);
    for token in &tokens {
        cache.find(Some(&token.digest())).await?;
    }
    let mut permitted = 0_u64;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for token in &tokens {
            let caller = cache.find(Some(&black_box(token).digest())).await?;
            let is_permitted = caller.is_some_and(|it| it.check(Access::Ingest, "speech").is_ok());
            permitted += u64::from(is_permitted);
        }
    }
    let each = start.elapsed() / (ROUNDS * u32::try_from(TOKENS)?);
    writeln!(std::io::stdout(), "{each:?} for each of {permitted} permitted calls")?;
    Ok(())
}
