-- wrk: each request sends a message of 60 bytes to one of a thousand rooms.
local room = 0
request = function()
  room = (room + 7) % 1000
  local body = string.format('{"chat":"alice%d:bob","text":"%s","sender":"bob"}', room, string.rep("x", 60))
  return wrk.format("POST", "/api/send", { ["Content-Type"] = "application/json" }, body)
end
