//! One Redis connection that all calls share, replaced by itself when it breaks.
//!
//! The library pipelines the calls. Its own `ConnectionManager` is not used because a connection that was refused for
//! anything but an IO error (a Redis that is still loading, a password that is being changed) stays refused for ever,
//! and because calls would wait for every attempt: here they wait for the first one, which heals a broken
//! connection in a millisecond, and fail at once while Redis is away.

use std::{io, sync::Arc, time::Duration};

use futures::FutureExt;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// How long a connection attempt may take. A Redis further away could not serve a call in time anyway.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The pauses between attempts grow from the first to the second; a Redis that is back is found within the latter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));

/// Commands that may wait in the connection's channel before callers wait for a place in it.
const PIPELINE_BUFFER: usize = 1_024;

/// A handle; clones share the connection. It is kept up as long as a handle is left.
#[derive(Clone)]
pub struct Connection {
    state: Arc<watch::Sender<State>>,
    database: i64,
    _kept_up: Arc<AbortOnDropHandle<()>>,
}

#[derive(Clone)]
enum State {
    /// The first attempt is under way, or the first one after a break.
    Connecting,
    Connected(Numbered),
    /// The last attempt failed.
    Away,
}

/// A connection that is told from those before it: an old one's late failure says nothing about it.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: MultiplexedConnection,
}

impl Connection {
    /// Starts connecting, in a task of its own.
    pub fn open(client: Client) -> Self {
        let database = client.get_connection_info().redis_settings().db();
        let state = Arc::new(watch::Sender::new(State::Connecting));
        let kept_up = AbortOnDropHandle::new(tokio::spawn(keep_up(client, state.clone())));
        Self { state, database, _kept_up: Arc::new(kept_up) }
    }

    /// Has the connection replaced: it does not answer.
    pub fn replace(&self) {
        self.replace_if(|_| true);
    }

    fn replace_if(&self, is_broken: impl Fn(u64) -> bool) {
        self.state.send_if_modified(|state| {
            let broken = matches!(state, State::Connected(current) if is_broken(current.number));
            if broken {
                *state = State::Connecting;
            }
            broken
        });
    }

    async fn get(&self) -> Result<Numbered, RedisError> {
        let mut changes = self.state.subscribe();
        let state = changes.wait_for(|state| !matches!(state, State::Connecting)).await;
        match state.as_deref() {
            Ok(State::Connected(current)) => Ok(current.clone()),
            _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "Redis is away, trying to reach it").into()),
        }
    }

    fn watch_for_breaks<T>(&self, number: u64, result: Result<T, RedisError>) -> Result<T, RedisError> {
        // A master that became a replica answers on and on that it is read-only.
        if result.as_ref().is_err_and(|e| e.is_unrecoverable_error() || e.code() == Some("READONLY")) {
            self.replace_if(|current| current == number);
        }
        result
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let Numbered { number, mut connection } = self.get().await?;
            self.watch_for_breaks(number, connection.send_packed_command(cmd).await)
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let Numbered { number, mut connection } = self.get().await?;
            self.watch_for_breaks(number, connection.send_packed_commands(cmd, offset, count).await)
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.database
    }
}

async fn keep_up(client: Client, state: Arc<watch::Sender<State>>) {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None) // the service has one deadline for a whole call
        .set_pipeline_buffer_size(PIPELINE_BUFFER);
    let mut changes = state.subscribe();
    let mut pause = PAUSES.0;
    for number in 0.. {
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                if matches!(state.send_replace(State::Connected(Numbered { number, connection })), State::Away) {
                    info!("Redis is back");
                }
                pause = PAUSES.0;
                let _ = changes.wait_for(|state| matches!(state, State::Connecting)).await;
            }
            Err(e) => {
                if !matches!(state.send_replace(State::Away), State::Away) {
                    warn!(error = %e, "Redis is away: sends and pulls fail until it is back");
                }
                sleep(pause.mul_f64(jitter())).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// 0.5 to 1, so that many replicas do not come back to Redis at the same moment.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) >> 11; // 53 bits, what an f64 holds exactly
    0.5 + random as f64 / (1u64 << 54) as f64
}
