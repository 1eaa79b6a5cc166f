-- Appends a message at the time given, unless this very message stands there already: what a first attempt with an
-- unknown outcome left. May be repeated any number of times. KEYS: the room. ARGV: time in microseconds, sender,
-- text. Returns 1 when the message stands there, 0 when it never will: the room has gone on.
local id = ARGV[1] .. '-0'
local there = redis.call('XRANGE', KEYS[1], id, id)[1]
if there then
  return there[2][2] == ARGV[2] and there[2][4] == ARGV[3] and 1 or 0
end
local added = redis.pcall('XADD', KEYS[1], id, 's', ARGV[2], 't', ARGV[3])
if added.err then
  if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
  return added
end
return 1
