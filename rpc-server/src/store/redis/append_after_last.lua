-- Appends a message whose proposed time Redis refused: at Redis's own time, or just after the room's last message
-- when that is later. KEYS: the room. ARGV: sender, text. Returns the time in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = 0
for i, field in ipairs(redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'STREAM', KEYS[1]) or {}) do
  if last == 'next' then
    last = tonumber(string.match(field, '^(%d+)-'))
    break
  elseif field == 'last-generated-id' then
    last = 'next'
  end
end
-- tostring() and '..' would print 1.7954e+15
local us = string.format('%.0f', math.max(now, last + 1))
redis.call('XADD', KEYS[1], us .. '-0', 's', ARGV[1], 't', ARGV[2])
return us
