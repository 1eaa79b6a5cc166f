//! Replies as Kitex's own, byte for byte but for the order of fields: calls and replies between a Kitex client and a
//! Kitex server, recorded by `interop/bin/kitex record` (Kitex 0.16.3), played to this server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;
use harness::thrift::{Envelope, Form, Message, Protocol, Value, encode, read_reply};
use rpc_server::{options::Options, server::Server};
use server_process::shutdown::CancellationToken;
use volo_gen::rpc;
use volo_thrift::ServerError;

/// What the recorded server does: `memory` in `interop/kitex/main.go`.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<rpc::Message>>>);

impl rpc::ImService for Memory {
    async fn send(&self, req: rpc::SendRequest) -> Result<rpc::SendResponse, ServerError> {
        let mut messages = self.0.lock().expect("not poisoned");
        let send_time = Some(messages.len() as i64 + 1);
        messages.push(rpc::Message { send_time, ..req.message });
        Ok(rpc::SendResponse { code: 0, msg: "success".into() })
    }

    async fn pull(&self, req: rpc::PullRequest) -> Result<rpc::PullResponse, ServerError> {
        let messages = self.0.lock().expect("not poisoned");
        let found: Vec<_> = messages.iter().filter(|m| m.chat.as_ref() == Some(&req.chat)).cloned().collect();
        let messages = (!found.is_empty()).then_some(found);
        let (has_more, next_cursor) = (Some(false), Some(0));
        Ok(rpc::PullResponse { code: 0, msg: "success".into(), messages, has_more, next_cursor })
    }
}

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    request: String,
    reply: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect()
}

fn form(name: &str) -> Form {
    let envelope = match name.split(',').next().expect("a transport") {
        "PurePayload" => Envelope::Unframed,
        "Framed" => Envelope::Framed,
        "TTHeader" | "TTHeaderFramed" => Envelope::TTHeaderFramed, // Kitex's client writes a frame in both
        other => panic!("{other}"),
    };
    (Protocol::Binary, envelope)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Struct(mut fields) => {
            fields.sort_by_key(|(id, _)| *id);
            Value::Struct(fields.into_iter().map(|(id, value)| (id, sorted(value))).collect())
        }
        Value::List(items) => Value::List(items.into_iter().map(sorted).collect()),
        value => value,
    }
}

/// What stands before the message, and the message with its fields in order.
fn parts(reply: &[u8], form: Form) -> (Vec<u8>, Message) {
    let message = read_reply(&mut &reply[..], form).expect("a reply");
    let before = reply.len() - encode(&message, (Protocol::Binary, Envelope::Unframed)).len();
    (reply[..before].to_vec(), Message { body: sorted(message.body.clone()), ..message })
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_kitexs_but_for_the_order_of_fields() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("kitex_vectors.json")).expect("vectors");
    assert!(vectors.len() >= 12);
    let port = Options::parse_from(["rpc-server"]).port;
    let server = Server::bind("127.0.0.1:0", &port).await.expect("a free port");
    let (addr, service, stop) = (server.local_addr(), Memory::default(), CancellationToken::new());
    let serving = {
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move { server.serve(service, &port, stop).await })
    };
    let replayed = tokio::task::spawn_blocking(move || {
        for Vector { name, request, reply } in vectors {
            let (form, expected) = (form(&name), bytes(&reply));
            if name.ends_with("Send") {
                // The recorded server numbered its messages over all transports, in another order.
                service.0.lock().expect("not poisoned").clear();
            }
            let mut stream = TcpStream::connect(addr).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            stream.write_all(&bytes(&request)).expect("written");
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap_or_else(|e| panic!("{name}: {e}"));
            let (got, mut expected) = (parts(&got, form), parts(&expected, form));
            if name.ends_with("Pull") {
                set_send_time(&mut expected.1.body);
            }
            assert_eq!(got, expected, "{name}");
        }
    });
    replayed.await.expect("all are equal");
    stop.cancel();
    serving.await.expect("ended");
}

/// The only message's time is 1 here.
fn set_send_time(body: &mut Value) {
    match body {
        Value::Struct(fields) => {
            for (id, value) in fields {
                match (*id, &mut *value) {
                    (4, Value::I64(time)) => *time = 1,
                    (_, value) => set_send_time(value),
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(set_send_time),
        _ => {}
    }
}
