-- Puts what a request really took in the place of its estimate, once: the arithmetic of `limits.rs`. Behind
-- `clock.lua`. ARGV: now, lease, tokens charged, day charged, tokens taken, money taken, the tenant's tokens per minute, and
-- the money put aside.
local charged, charged_day = tonumber(ARGV[3]), tonumber(ARGV[4])
local tokens, money, tpm, aside = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then return 0 end

local account = redis.call('HMGET', KEYS[1], 'tokens', 'day', 'day_tokens', 'day_money')
local due, day = tonumber(account[1] or 0), tonumber(account[2] or 0)
local day_tokens, day_money = tonumber(account[3] or 0), tonumber(account[4] or 0)

if tpm > 0 then
  local shift = math.floor(math.abs(tokens - charged) * WINDOW / tpm)
  if tokens < charged then due = math.max(due - shift, 0) else due = math.max(due, now) + shift end
end
-- Over midnight all of it is today's.
day_tokens, day_money = day_tokens + tokens, day_money + money
if charged_day == day then
  day_tokens, day_money = math.max(day_tokens - charged, 0), math.max(day_money - aside, 0)
end
redis.call('HSET', KEYS[1], 'tokens', whole(due), 'day', whole(day), 'day_tokens', whole(day_tokens), 'day_money',
  whole(day_money))
return 0
