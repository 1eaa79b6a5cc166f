// Apache Thrift for Node: Binary and Compact, buffered and framed. usage: node client.js HOST PORT
const assert = require("assert");
const thrift = require("thrift");
const IMService = require("./gen/IMService");
const types = require("./gen/idl_rpc_types");

const [host, port] = [process.argv[2], Number(process.argv[3])];

async function check(protocolName, protocol, transportName, transport) {
  const connection = thrift.createConnection(host, port, { transport, protocol });
  connection.on("error", (e) => { throw e; });
  const client = thrift.createClient(IMService, connection);
  const message = (Chat, Text) => new types.SendRequest({ message: new types.Message({ Chat, Text, Sender: "b", SendTime: 0 }) });
  const chat = `node-${protocolName}-${transportName}-${Date.now()}:b`.toLowerCase();
  const texts = ["1", "2", "3 \r\n and \u{1F980}"];
  for (const text of texts) {
    const sent = await client.Send(message(chat, text));
    assert.deepStrictEqual([sent.Code, sent.Msg], [0, "success"]);
  }
  for (const Reverse of [false, true]) {
    const page = await client.Pull(new types.PullRequest({ Chat: chat, Cursor: 0, Limit: 2, Reverse }));
    const expected = (Reverse ? [...texts].reverse() : texts).slice(0, 2);
    assert.deepStrictEqual(page.Messages.map((m) => m.Text), expected);
    assert(page.HasMore && page.NextCursor.valueOf() > 0);
  }
  assert.strictEqual((await client.Send(message("nobody", "x"))).Code, 400);
  await assert.rejects(unknownMethod(client), (e) => e.type === thrift.Thrift.TApplicationExceptionType.UNKNOWN_METHOD);
  const all = await client.Pull(new types.PullRequest({ Chat: chat, Cursor: 0, Limit: 0 }));
  assert.strictEqual(all.Messages.length, 3);
  connection.end();
  console.log(`| Apache Thrift 0.17 (Node) | ${protocolName} | ${transportName} | passed |`);
}

// The generated client's own way of a call, with a name that the service does not have.
function unknownMethod(client) {
  client.recv_Nope = (input, type, number) => {
    const callback = client._reqs[number];
    delete client._reqs[number];
    const e = new thrift.Thrift.TApplicationException();
    e.read(input);
    input.readMessageEnd();
    callback(e);
  };
  return new Promise((resolve, reject) => {
    client._seqid = client.new_seqid();
    client._reqs[client.seqid()] = (e, result) => (e ? reject(e) : resolve(result));
    const output = new client.pClass(client.output);
    output.writeMessageBegin("Nope", thrift.Thrift.MessageType.CALL, client.seqid());
    output.writeStructBegin("Nope_args");
    output.writeFieldStop();
    output.writeStructEnd();
    output.writeMessageEnd();
    client.output.flush();
  });
}

(async () => {
  for (const [p, protocol] of [["Binary", thrift.TBinaryProtocol], ["Compact", thrift.TCompactProtocol]])
    for (const [t, transport] of [["buffered", thrift.TBufferedTransport], ["framed", thrift.TFramedTransport]])
      await check(p, protocol, t, transport);
})().catch((e) => { console.error(e); process.exit(1); });
