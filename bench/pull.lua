-- wrk: each request pulls ten messages from one of the thousand rooms that send.lua filled.
local room = 0
request = function()
  room = (room + 7) % 1000
  return wrk.format("GET", string.format("/api/pull?chat=alice%d:bob&limit=10", room))
end
