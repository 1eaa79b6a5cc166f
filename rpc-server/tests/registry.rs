//! Contract section 4: servers register in etcd as Kitex's do, clients find them there, and both go on while etcd or
//! servers die.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_registry::{
    etcd::Etcd,
    options::{Endpoints, RegistryOptions},
};
use harness::{
    calls::{assert_stored_once, pull, send},
    etcd::EtcdServer,
    program::Program,
    redis::RedisServer,
};
use http_server::{
    options::{RpcOptions, Targets},
    rpc_client::RpcClient,
};
use tokio::{task::JoinSet, time::sleep};

const PREFIX: &str = "kitex/registry-etcd/demo.rpc.server/";

fn serve(redis: &RedisServer, etcd: &EtcdServer) -> Program {
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", &redis.url(), "--etcd", &etcd.endpoint()];
    Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &args)
}

fn registry(etcd: &EtcdServer) -> RegistryOptions {
    let etcd: Endpoints = etcd.endpoint().parse().expect("an endpoint");
    RegistryOptions { etcd, service_name: "demo.rpc.server".to_owned() }
}

/// A client that finds its servers in etcd.
fn client(etcd: &EtcdServer) -> RpcClient {
    let rpc_timeout = Duration::from_secs(1);
    RpcClient::new(RpcOptions { rpc_target: Targets::default(), rpc_timeout, registry: registry(etcd) })
}

async fn entries(etcd: &EtcdServer) -> Vec<(String, String)> {
    let listing = Etcd::new(&registry(etcd).etcd.0).list(PREFIX).await;
    let text = |(key, value)| (key, String::from_utf8(value).expect("text"));
    listing.map_or_else(|_| Vec::new(), |listing| listing.entries.into_iter().map(text).collect())
}

async fn wait_for_entries(etcd: &EtcdServer, count: usize) -> Duration {
    let start = Instant::now();
    while entries(etcd).await.len() != count {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", entries(etcd).await);
        sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

async fn serves(client: &RpcClient) -> bool {
    send(client, "a:b", "x", "a").await.0 == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_registers_as_kitexs_do_and_is_gone_when_it_stops() {
    let (redis, etcd) = (RedisServer::start(), EtcdServer::start());
    let mut server = serve(&redis, &etcd);
    wait_for_entries(&etcd, 1).await;
    let addr = server.rpc();
    let value = format!(r#"{{"network":"tcp","address":"{addr}","weight":10,"tags":null}}"#);
    assert_eq!(entries(&etcd).await, [(format!("{PREFIX}{addr}"), value)]);
    assert!(server.stop().0.success());
    assert_eq!(entries(&etcd).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_comes_late_or_loses_all_has_the_server_again_and_calls_go_on_meanwhile() {
    let (redis, mut etcd) = (RedisServer::start(), EtcdServer::start());
    etcd.kill();
    let server = serve(&redis, &etcd);
    let client = client(&etcd);
    assert_eq!(send(&client, "a:b", "x", "a").await.0, 503, "nobody knows a server yet");
    etcd.restart();
    wait_for_entries(&etcd, 1).await;
    while !serves(&client).await {
        sleep(Duration::from_millis(20)).await;
    }
    for empty in [false, true] {
        etcd.kill();
        for _ in 0..20 {
            assert!(serves(&client).await, "the last known list serves while etcd is away");
            sleep(Duration::from_millis(20)).await;
        }
        if empty {
            etcd.restart_empty()
        } else {
            etcd.restart()
        }
        wait_for_entries(&etcd, 1).await;
        assert!(serves(&client).await);
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_services_and_entries_that_are_none_are_passed_over() {
    let (redis, etcd) = (RedisServer::start(), EtcdServer::start());
    let registered = Etcd::new(&registry(&etcd).etcd.0);
    let lease = registered.grant(Duration::from_secs(60)).await.expect("granted");
    let nobody = format!("127.0.0.1:{}", harness::free_port());
    let value = format!(r#"{{"network":"tcp","address":"{nobody}","weight":1000}}"#);
    for (key, value) in [
        (format!("kitex/registry-etcd/demo.rpc.server2/{nobody}"), value.as_str()),
        (format!("{PREFIX}no-json"), "{"),
        (format!("{PREFIX}no-such-host:1"), r#"{"network":"tcp","address":"no-such-host.invalid:1","weight":10}"#),
    ] {
        registered.put(&key, value.as_bytes(), &lease).await.expect("put");
    }
    let _server = serve(&redis, &etcd);
    wait_for_entries(&etcd, 3).await;
    let client = client(&etcd);
    for _ in 0..50 {
        assert!(serves(&client).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_come_stop_and_die_under_load_fail_no_call_that_could_be_served_and_double_none() {
    let (redis, mut etcd) = (RedisServer::start(), EtcdServer::start());
    let mut servers: Vec<_> = (0..3).map(|_| serve(&redis, &etcd)).collect();
    wait_for_entries(&etcd, 3).await;
    let (client, stop) = (client(&etcd), Arc::new(AtomicBool::new(false)));
    assert!(serves(&client).await);
    let mut writers = JoinSet::new();
    for w in 0..8 {
        let (client, stop) = (client.clone(), stop.clone());
        writers.spawn(async move {
            let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
            for i in 0.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let text = format!("{w}/{i}");
                match send(&client, "c:d", &text, "c").await {
                    (0, _) => acknowledged.push(text),
                    (code, msg) => failed.push((code, msg)),
                }
            }
            (acknowledged, failed)
        });
    }
    let mut killed = 0;
    for round in 0..6 {
        sleep(Duration::from_millis(200)).await;
        let mut gone = servers.remove(0);
        match round % 3 {
            0 => assert!(tokio::task::spawn_blocking(move || gone.stop().0).await.expect("no panic").success()),
            1 => {
                gone.kill();
                killed += 1;
            }
            _ => {
                etcd.kill();
                gone.kill();
                killed += 1;
                sleep(Duration::from_millis(200)).await;
                etcd.restart();
            }
        }
        servers.push(serve(&redis, &etcd));
    }
    stop.store(true, Ordering::Release);
    let results = writers.join_all().await;
    let failed: Vec<_> = results.iter().flat_map(|(_, failed)| failed).collect();
    let acknowledged: Vec<_> = results.iter().flat_map(|(acknowledged, _)| acknowledged.clone()).collect();
    assert!(acknowledged.len() > 500, "only {} were acknowledged", acknowledged.len());
    // A call that a killed server had taken cannot be tried again: it may be stored. No other may fail.
    assert!(failed.len() <= killed * 8, "{} failed over {killed} kills: {:?}", failed.len(), failed.first());
    assert!(failed.iter().all(|(code, msg)| *code == 503 && msg.contains("may or may not")), "{failed:?}");
    assert_stored_once(&client, "c:d", &acknowledged).await;
    assert_eq!(pull(&client, "c:d", 0, 1, true).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_costs_the_calls_on_their_way_and_then_gets_no_more() {
    let (redis, etcd) = (RedisServer::start(), EtcdServer::start());
    let (hanging, _living) = (serve(&redis, &etcd), serve(&redis, &etcd));
    wait_for_entries(&etcd, 2).await;
    let client = client(&etcd);
    while !serves(&client).await {}
    hanging.pause();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        callers.spawn(async move {
            let (start, mut codes) = (Instant::now(), Vec::new());
            while start.elapsed() < Duration::from_secs(4) {
                codes.push(send(&client, "a:b", "x", "a").await.0);
            }
            codes
        });
    }
    let codes = callers.join_all().await.concat();
    let failed: Vec<_> = codes.iter().filter(|code| **code != 0).collect();
    assert!(failed.len() <= 8 && failed.iter().all(|code| **code == 504), "{} failed: {failed:?}", failed.len());
    assert!(codes.len() > 100, "only {} were served", codes.len());
    hanging.resume();
}
