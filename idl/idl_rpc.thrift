// The RPC interface of the pull-mode messaging service.
// Types, ids and requiredness are fixed: callers in any language are generated from this file.
namespace go rpc

struct Message {
    1: string Chat     // the two members, "<member1>:<member2>", as "alice:bob"
    2: string Text     // 1 byte to 64 KiB of UTF-8
    3: string Sender   // one of the two members
    4: i64    SendTime // microseconds since the Unix epoch; the server's, ignored in a SendRequest
}

struct SendRequest {
    1: required Message message
}

struct SendResponse {
    1: required i32    Code // 0 = stored; 4xx = the caller's error; 503 = the store is away, 504 = it is slow
    2: required string Msg  // "success", or what is wrong and what is expected
}

struct PullRequest {
    1: required string Chat
    2: required i64    Cursor  // a SendTime, inclusive; 0 = from the beginning, or from the newest with Reverse
    3: required i32    Limit   // messages in the page; 0 = 10
    4: optional bool   Reverse // newest first
}

struct PullResponse {
    1: required i32           Code // as in SendResponse
    2: required string        Msg
    3: optional list<Message> Messages
    4: optional bool          HasMore    // there is a next page
    5: optional i64           NextCursor // the Cursor of the next page; 0 when HasMore is false
}

service IMService {
    SendResponse Send(1: SendRequest req)
    PullResponse Pull(2: PullRequest req) // the argument's id is 2, as callers have it compiled in
}
