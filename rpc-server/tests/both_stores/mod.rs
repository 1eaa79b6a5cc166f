//! Runs each behaviour on both stores, each test with a store of its own.

use std::sync::Arc;

use harness::redis::RedisServer;
use rpc_server::store::{self, Store};
use tempfile::TempDir;

/// Whatever a store needs to live, ended with the test.
pub enum Backend {
    Embedded(TempDir),
    Redis(RedisServer),
}

impl Backend {
    pub fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn redis() -> Self {
        Self::Redis(RedisServer::start())
    }

    /// Opens the store and waits until it is ready.
    pub async fn open(&self) -> Arc<dyn Store> {
        let url = match self {
            Self::Embedded(dir) => format!("embedded:{}", dir.path().display()),
            Self::Redis(server) => server.url(),
        };
        let store = store::open(&url.parse().expect("a store's URL")).await.expect("opened");
        while store.ready().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        store
    }
}

/// `on_both_stores! { behaviour, … }` makes a test of each `async fn behaviour(backend: Backend)` on each store.
#[macro_export]
macro_rules! on_both_stores {
    ($($behaviour:ident),* $(,)?) => {
        mod on_the_embedded_store {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour($crate::both_stores::Backend::embedded()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour($crate::both_stores::Backend::redis()).await;
            })*
        }
    };
}
