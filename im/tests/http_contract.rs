//! Contract section 3, row by row, as bytes over the wire.

use std::{net::SocketAddr, time::Duration};

use harness::{
    http::{Answer, Connection, request},
    program::Program,
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Server {
    program: Program,
    _dir: TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = format!("embedded:{}", dir.path().display());
        let mut all = vec!["serve", "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--store", &store];
        all.extend(args);
        Self { program: Program::serve(env!("CARGO_BIN_EXE_im"), &all), _dir: dir }
    }

    fn addr(&self) -> SocketAddr {
        self.program.http()
    }

    /// One request on a connection of its own.
    fn ask(&self, head: &str, body: &[u8]) -> Answer {
        request(self.addr(), head, body)
    }

    /// The texts in a chat.
    fn texts(&self, chat: &str) -> Vec<String> {
        let page = self.ask("GET /api/pull HTTP/1.1", json!({ "chat": chat }).to_string().as_bytes()).json();
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|m| m["text"].as_str().expect("a text").to_owned()).collect()
    }
}

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

#[test]
fn ping_answers_pong() {
    let answer = Server::start().ask("GET /ping HTTP/1.1", b"");
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.text().as_str()),
        (200, JSON, r#"{"message":"pong"}"#)
    );
}

#[test]
fn a_send_answers_200_with_an_empty_body_and_a_pull_the_messages() {
    let server = Server::start();
    let sent = server.ask(
        "POST /api/send HTTP/1.1\r\nContent-Type: application/json",
        br#"{"chat":"a:b","text":"hi <&> \u2028","sender":"a"}"#,
    );
    assert_eq!((sent.status, sent.body), (200, vec![]));
    let page = server.ask("GET /api/pull?chat=A:b HTTP/1.1", b"");
    assert_eq!((page.status, page.header("content-type")), (200, JSON));
    let page = page.json();
    let send_time = page["messages"][0]["send_time"].as_i64().expect("a number");
    assert!(send_time > 1_600_000_000_000_000);
    let message = json!({"chat": "A:b", "text": "hi <&> \u{2028}", "sender": "a", "send_time": send_time});
    assert_eq!(page, json!({"messages": [message]}), "has_more and next_cursor are left out when false and 0");
}

#[test]
fn an_empty_chat_answers_an_empty_object() {
    let answer = Server::start().ask("GET /api/pull?chat=no:body HTTP/1.1", b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
}

#[test]
fn has_more_and_next_cursor_lead_to_the_next_page() {
    let server = Server::start();
    for text in ["one", "two"] {
        server.ask(&format!("POST /api/send?chat=a:b&sender=a&text={text} HTTP/1.1"), b"");
    }
    let first = server.ask("GET /api/pull?chat=a:b&limit=1 HTTP/1.1", b"").json();
    assert_eq!((&first["messages"][0]["text"], &first["has_more"]), (&json!("one"), &json!(true)));
    let next = first["next_cursor"].as_i64().expect("a number");
    let second = server.ask(&format!("GET /api/pull?chat=a:b&limit=1&cursor={next} HTTP/1.1"), b"").json();
    assert_eq!((&second["messages"][0]["text"], &second["has_more"]), (&json!("two"), &Value::Null));
}

#[test]
fn parameters_arrive_in_any_of_the_ways_that_people_use() {
    let server = Server::start();
    let multipart = "--X\r\nContent-Disposition: form-data; name=\"chat\"\r\n\r\n12:b\r\n\
                     --X\r\nContent-Disposition: form-data; name=\"TEXT\"\r\n\r\nhi you\r\n\
                     --X\r\nContent-Disposition: form-data; name=\"sender\"\r\n\r\n12\r\n--X--\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded";
    let rows: &[(&str, &str, &str)] = &[
        // what follows the path, headers, body; each is one message "hi you" from n in the chat "n:b"
        ("", "Content-Type: application/json", r#"{"chat":"0:b","text":"hi you","sender":"0"}"#),
        ("", form, r#"{"chat":"1:b","text":"hi you","sender":"1"}"#), // curl -d
        ("", "Content-Type: text/plain", r#"{"chat":"2:b","text":"hi you","sender":"2"}"#), // Postman's raw
        ("", "X: y", r#"{"chat":"3:b","text":"hi you","sender":"3"}"#),
        ("?chat=4:b&text=hi+you&sender=4", "X: y", ""),
        ("?chat=5%3Ab&text=hi%20you&sender=5", "X: y", ""),
        ("", form, "chat=6:b&text=hi+you&sender=6"),
        ("", form, "chat=7%3ab&text=hi%20you&sender=7&more=%ff"),
        ("", "X: y", r#"{"Chat":"8:b","Text":"hi you","Sender":"8","SendTime":77}"#),
        ("", "X: y", r#"  {"CHAT":"9:b","tExT":"hi you","sender":"9","x":{"y":[1,{}]},"limit":"no"}"#),
        ("?chat=10:b&text=wrong&sender=10", "X: y", r#"{"text":"hi you","chat":null}"#), // the body wins, null is absent
        ("?CHAT=11:b&Text=hi+you", form, "sender=11"),
        ("", "Content-Type: multipart/form-data; boundary=X", multipart),
        ("?sender=13&receiver=b&text=hi+you", "X: y", ""),
        ("", "X: y", r#"{"Sender":"14","receiver":"b","text":"hi you"}"#),
        ("?chat=15:b&receiver=c&sender=15", "X: y", r#"{"text":"wrong","text":"hi you"}"#), // chat beats receiver
    ];
    for (n, (query, header, body)) in rows.iter().enumerate() {
        let sent = server.ask(&format!("POST /api/send{query} HTTP/1.1\r\n{header}"), body.as_bytes());
        assert_eq!(sent.status, 200, "row {n}: {}", sent.text());
        assert_eq!(server.texts(&format!("{n}:b")), ["hi you"], "row {n}");
    }
    let chunked = "POST /api/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   b\r\n{\"chat\":\"ch\r\n2c;x=y\r\nunked:b\",\"text\":\"hi you\",\"sender\":\"chunked\"}\r\n0\r\n\r\n";
    let mut connection = Connection::open(server.addr());
    connection.write(chunked.as_bytes());
    assert_eq!(connection.answer().map(|a| a.status), Some(200));
    assert_eq!(server.texts("chunked:b"), ["hi you"]);
}

#[test]
fn a_pulls_parameters_arrive_in_the_same_ways() {
    let server = Server::start();
    for text in ["one", "two", "three"] {
        server.ask(&format!("POST /api/send?chat=a:b&sender=a&text={text} HTTP/1.1"), b"");
    }
    let form = "Content-Type: application/x-www-form-urlencoded";
    let rows: &[(&str, &str, &str)] = &[
        ("", "Content-Type: application/json", r#"{"chat":"a:b","cursor":0,"limit":1,"reverse":true}"#),
        ("", form, r#"{"chat":"b:a","Limit":1,"REVERSE":true}"#),
        ("?chat=a:b&cursor=0&limit=1&reverse=true", "X: y", ""),
        ("?chat=a:b&cursor=&limit=1&reverse=1", "X: y", ""),
        ("?chat=a%3Ab&Limit=1&Reverse=True", "X: y", ""),
        ("?limit=3&reverse=false", form, "chat=a:b&limit=1&reverse=t"),
        ("?sender=a&receiver=b&limit=1&reverse=true", "X: y", ""),
        ("?limit=1", "X: y", r#"{"chat":"a:b","limit":null,"reverse":true,"text":5}"#),
    ];
    for (query, header, body) in rows {
        let page = server.ask(&format!("GET /api/pull{query} HTTP/1.1\r\n{header}"), body.as_bytes()).json();
        assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{query} {body}");
        assert_eq!(page["messages"][0]["text"], "three", "{query} {body}");
    }
}

#[test]
fn protobuf_is_taken_and_given_where_it_is_named() {
    let server = Server::start();
    let send = b"\x0a\x03a:b\x12\x02hi\x1a\x01a";
    let sent = server.ask("POST /api/send HTTP/1.1\r\nContent-Type: application/x-protobuf", send);
    assert_eq!((sent.status, sent.body), (200, vec![]));
    let pull = b"\x0a\x03a:b\x18\x05";
    let json = server.ask("GET /api/pull HTTP/1.1\r\nContent-Type: application/x-protobuf", pull);
    assert_eq!((json.header("content-type"), &json.json()["messages"][0]["text"]), (JSON, &json!("hi")));
    let head = "GET /api/pull HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nAccept: application/x-protobuf";
    let page = server.ask(head, pull);
    assert_eq!((page.status, page.header("content-type")), (200, "application/x-protobuf"));
    assert!(page.body.starts_with(b"\x0a\x15\x0a\x03a:b\x12\x02hi\x1a\x01a\x20"), "{:?}", page.body);
    let junk =
        server.ask("POST /api/send HTTP/1.1\r\nContent-Type: application/x-protobuf", b"\x0a\xff\xff\xff\xff\x0f");
    assert_eq!(junk.status, 400);
    let latin = server
        .ask("POST /api/send HTTP/1.1\r\nContent-Type: application/x-protobuf", b"\x0a\x03a:b\x12\x01\xff\x1a\x01a");
    assert_eq!((latin.status, latin.text().contains("text is not UTF-8")), (400, true));
}

#[test]
fn what_does_not_parse_is_400_and_begins_as_the_go_references_text() {
    let server = Server::start();
    let form = "\r\nContent-Type: application/x-www-form-urlencoded";
    let rows: &[(&str, &[u8])] = &[
        ("POST /api/send HTTP/1.1", b"{"),
        ("POST /api/send HTTP/1.1", b"not json"),
        ("POST /api/send HTTP/1.1", b"[]"),
        ("POST /api/send HTTP/1.1", b"\"text\""),
        ("POST /api/send HTTP/1.1", br#"{"chat":"a:b"} {}"#),
        ("POST /api/send HTTP/1.1", br#"{"chat":5}"#),
        ("POST /api/send HTTP/1.1", br#"{"chat":"a:b","text":"\ud800","sender":"a"}"#),
        ("POST /api/send HTTP/1.1", b"{\"chat\":\"a:b\",\"text\":\"\xff\",\"sender\":\"a\"}"),
        ("POST /api/send?chat=a:b&sender=a&text=%ff HTTP/1.1", b""),
        ("POST /api/send HTTP/1.1\r\nContent-Type: multipart/form-data", b"x"),
        ("POST /api/send HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=X", b"--X\r\n"),
        ("GET /api/pull HTTP/1.1", br#"{"chat":"a:b","limit":"10"}"#),
        ("GET /api/pull HTTP/1.1", br#"{"chat":"a:b","limit":1.5}"#),
        ("GET /api/pull HTTP/1.1", br#"{"chat":"a:b","limit":99999999999}"#),
        ("GET /api/pull HTTP/1.1", br#"{"chat":"a:b","reverse":1}"#),
        ("GET /api/pull?chat=a:b&cursor=now HTTP/1.1", b""),
        ("GET /api/pull?chat=a:b&limit=99999999999 HTTP/1.1", b""),
        ("GET /api/pull?chat=a:b&reverse=maybe HTTP/1.1", b""),
    ];
    for (head, body) in rows {
        let head = if head.contains("Content-Type") { (*head).to_owned() } else { format!("{head}{form}") };
        let head = if body.first().is_none_or(|b| b"{[".contains(b)) { head } else { head.replace(form, "") };
        let answer = server.ask(&head, body);
        let said = answer.text();
        assert_eq!((answer.status, answer.header("content-type")), (400, TEXT), "{head} {said}");
        assert!(said.starts_with("Failed to parse request body:"), "{said}");
    }
}

#[test]
fn what_the_service_refuses_keeps_its_code_and_sentence() {
    let server = Server::start();
    let long = "y".repeat(65_537);
    let rows: &[(&str, Value, u16, &str)] = &[
        ("POST /api/send", json!({}), 400, "chat must be two members"),
        ("POST /api/send", json!({"chat": "a:b:c", "text": "x", "sender": "a"}), 400, "chat must be two members"),
        ("POST /api/send", json!({"chat": "a:b", "text": "x", "sender": "c"}), 400, "sender must be one of"),
        ("POST /api/send", json!({"chat": "a:b", "text": "", "sender": "a"}), 400, "text must not be empty"),
        ("POST /api/send", json!({"chat": "a:b", "text": long, "sender": "a"}), 413, "at most 65536"),
        ("POST /api/send", json!({"receiver": "b", "text": "x"}), 400, "chat must be two members"),
        ("GET /api/pull", json!({}), 400, "chat must be two members"),
        ("GET /api/pull", json!({"chat": "a:b", "cursor": -1}), 400, "cursor is -1"),
        ("GET /api/pull", json!({"chat": "a:b", "limit": -1}), 400, "limit is -1"),
    ];
    for (request, body, status, says) in rows {
        let answer = server.ask(&format!("{request} HTTP/1.1"), body.to_string().as_bytes());
        let said = answer.text();
        assert_eq!((answer.status, answer.header("content-type")), (*status, TEXT), "{said}");
        assert!(said.contains(says), "{said:?} does not say {says:?}");
    }
}

#[test]
fn errors_are_problem_details_for_who_accepts_them() {
    let server = Server::start();
    let accept = "Accept: text/html, application/problem+json;q=0.9";
    for (request, status, title, detail) in [
        ("POST /api/send", 400, "Bad Request", "chat must be two members"),
        ("GET /nowhere", 404, "Not Found", "404"),
        ("PUT /ping", 405, "Method Not Allowed", "GET, HEAD, OPTIONS"),
    ] {
        let answer = server.ask(&format!("{request} HTTP/1.1\r\n{accept}"), b"");
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"));
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["title"]), (&json!(status), &json!(title)));
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(detail)), "{problem}");
    }
}

#[test]
fn other_methods_are_405_with_allow_and_head_and_options_are_answered() {
    let server = Server::start();
    for (request, status, allow) in [
        ("POST /ping", 405, "GET, HEAD, OPTIONS"),
        ("GET /api/send", 405, "POST, OPTIONS"),
        ("POST /api/pull", 405, "GET, HEAD, OPTIONS"),
        ("DELETE /api/pull", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS /api/send", 204, "POST, OPTIONS"),
        ("HEAD /ping", 200, ""),
        ("HEAD /api/pull?chat=a:b", 200, ""),
        ("GET /", 404, ""),
        ("GET /api", 404, ""),
        ("GET /api/sendx", 404, ""),
    ] {
        let answer = server.ask(&format!("{request} HTTP/1.1"), b"");
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{request}");
    }
}

#[test]
fn a_slash_too_many_redirects() {
    let server = Server::start();
    for (request, status, location) in [
        ("GET /ping/", 301, "/ping"),
        ("GET /api/pull/?chat=a:b", 301, "/api/pull?chat=a:b"),
        ("POST /api/send/", 307, "/api/send"),
        ("GET /nowhere/", 404, ""),
    ] {
        let answer = server.ask(&format!("{request} HTTP/1.1"), b"");
        assert_eq!((answer.status, answer.header("location")), (status, location), "{request}");
    }
}

#[test]
fn a_body_over_the_limit_is_413_declared_or_not() {
    let server = Server::start();
    let mut declared = Connection::open(server.addr());
    declared.write(b"POST /api/send HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n");
    assert_eq!(declared.answer().map(|a| a.status), Some(413), "before any of it is sent");

    let body = vec![b' '; (4 << 20) + 1];
    assert_eq!(server.ask("POST /api/send HTTP/1.1", &body).status, 413);
    assert_eq!(
        server.ask("POST /api/send HTTP/1.1", &body[1..]).status,
        400,
        "just the limit: read, and no chat in it"
    );

    let mut chunked = Connection::open(server.addr());
    chunked.write(b"POST /api/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        chunked.write(b"100000\r\n");
        chunked.write(&body[..1 << 20]);
        chunked.write(b"\r\n");
    }
    chunked.write(b"0\r\n\r\n");
    assert_eq!(chunked.answer().map(|a| a.status), Some(413));
}

#[test]
fn hostile_requests_are_refused_and_others_served_meanwhile() {
    let server = Server::start();
    let flood: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let huge = format!("X: {}\r\n", "y".repeat(1 << 20));
    for (name, head, statuses) in [
        ("two lengths", "POST /api/send HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n", &[400][..]),
        ("a length that is none", "POST /api/send HTTP/1.1\r\nContent-Length: -1\r\n", &[400]),
        ("200 headers", &format!("GET /ping HTTP/1.1\r\n{flood}"), &[431]),
        ("a header of 1 MiB", &format!("GET /ping HTTP/1.1\r\n{huge}"), &[431]),
        ("no HTTP", "\x16\x03\x01 hello\r\n", &[400]),
    ] {
        let mut connection = Connection::open(server.addr());
        connection.write(format!("{head}\r\n").as_bytes());
        let status = connection.answer().map(|a| a.status);
        assert!(status.is_some_and(|s| statuses.contains(&s)), "{name}: {status:?}");
        assert_eq!(server.ask("GET /ping HTTP/1.1", b"").status, 200, "after {name}");
    }
    for deep in ["[".repeat(100_000), r#"{"x":"#.repeat(100_000), format!(r#"{{"x":{}"#, "[".repeat(100_000))] {
        assert_eq!(server.ask("POST /api/send HTTP/1.1", deep.as_bytes()).status, 400);
    }
}

#[test]
fn bodies_under_way_share_a_bounded_memory_and_small_ones_are_served_meanwhile() {
    let server = Server::start_with(&["--all-bodies-bytes-max", "1048576"]);
    let unfinished = || {
        let mut connection = Connection::open(server.addr());
        connection.write(b"POST /api/send HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n");
        connection.write(&[b' '; 700_000]);
        connection
    };
    let mut first = unfinished();
    std::thread::sleep(Duration::from_millis(200));
    let refused = unfinished().answer().expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text());
    assert_eq!(server.ask("GET /api/pull HTTP/1.1", br#"{"chat":"a:b"}"#).status, 200);
    first.write(&[b' '; 200_000]);
    assert_eq!(first.answer().map(|a| a.status), Some(400), "nothing but spaces");
    let mut third = unfinished();
    third.write(&[b' '; 200_000]);
    assert_eq!(third.answer().map(|a| a.status), Some(400), "what the first one held is free again");
}

#[test]
fn slow_senders_are_timed_out() {
    let server = Server::start_with(&["--body-timeout", "300ms", "--header-timeout", "300ms"]);
    let mut body = Connection::open(server.addr());
    body.write(b"POST /api/send HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
    let mut head = Connection::open(server.addr());
    head.write(b"GET /ping HTTP/1.1\r\nHost:");
    let mut idle = Connection::open(server.addr());
    assert_eq!(server.ask("GET /ping HTTP/1.1", b"").status, 200);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(body.answer().map(|a| a.status), Some(408));
    assert!(head.answer().is_none(), "closed");
    assert!(idle.answer().is_none(), "closed");
}

#[test]
fn one_connection_carries_many_requests_also_pipelined() {
    let server = Server::start();
    let mut connection = Connection::open(server.addr());
    for _ in 0..3 {
        assert_eq!(connection.request("GET /ping HTTP/1.1", b"").status, 200);
        assert_eq!(connection.request("GET /nowhere HTTP/1.1", b"").status, 404);
        assert_eq!(connection.request("POST /api/send HTTP/1.1", b"{}").status, 400);
    }
    connection.write(&b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nPUT /ping HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_eq!(connection.answer().map(|a| a.status), Some(200));
        assert_eq!(connection.answer().map(|a| a.status), Some(405));
    }
}

#[test]
fn http_1_0_and_expect_100_continue_are_served() {
    let server = Server::start();
    let mut old = Connection::open(server.addr());
    old.write(b"GET /ping HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().map(|a| a.status), Some(200));
    assert!(old.answer().is_none(), "closed after the answer");

    let mut polite = Connection::open(server.addr());
    let body = br#"{"chat":"a:b","text":"x","sender":"a"}"#;
    let head =
        format!("POST /api/send HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    polite.write(head.as_bytes());
    std::thread::sleep(Duration::from_millis(50));
    polite.write(body);
    assert_eq!(polite.answer().map(|a| a.status), Some(200));
}
