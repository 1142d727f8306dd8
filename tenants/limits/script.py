"""The token bucket as Redis runs it: one script for all tenants and clients that wait. Owns nothing else."""

from __future__ import annotations

# KEYS: for each tenant its bucket, then those of its clients that have one of their own.
# ARGV: for each tenant rate, burst, number of clients' buckets; rate and burst of each of those; n, then n costs;
# and, if there are clients' buckets, n places: which of them the cost is taken from too, 0: none.
# Costs are granted first come, first served, each whole or not at all, and from both buckets or from neither; a cost
# of 0 only looks. Answers for each tenant a text of 0 and 1, and what is left in each of its buckets.
# Redis' own clock, so that processes with different clocks agree; elapsed time is clamped at 0, as that clock may be
# set back, and counts on from there. A bucket that is full again may be forgotten: the time to live is the time to
# full (at most 3,000 years, as Redis takes no larger number).
SCRIPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

local function open(key, rate, burst)
  local tokens, since = burst, now
  local state = redis.call('GET', key)
  if state then
    local t, s = string.match(state, '^(%S+) (%S+)$')
    tokens, since = tonumber(t), tonumber(s)
  end
  return {key = key, rate = rate, burst = burst, tokens = math.min(burst, tokens + math.max(0, now - since) * rate)}
end

local function close(bucket)
  local full = math.ceil((bucket.burst - bucket.tokens) / bucket.rate * 1000) + 1000
  redis.call('SET', bucket.key, string.format('%.17g %.17g', bucket.tokens, now), 'PX', math.min(full, 1e14))
  return string.format('%.17g', bucket.tokens)
end

local out = {}
local k, a = 1, 1
while k <= #KEYS do
  local bucket = open(KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1]))
  local own = {}
  local clients = tonumber(ARGV[a + 2])
  k, a = k + 1, a + 3
  for c = 1, clients do
    own[c] = open(KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1]))
    k, a = k + 1, a + 2
  end
  local n = tonumber(ARGV[a])
  local granted = {}
  for j = 1, n do
    local cost = tonumber(ARGV[a + j])
    local mine = clients > 0 and own[tonumber(ARGV[a + n + j])]
    if cost <= bucket.tokens and (not mine or cost <= mine.tokens) then
      bucket.tokens = bucket.tokens - cost
      if mine then
        mine.tokens = mine.tokens - cost
      end
      granted[j] = '1'
    else
      granted[j] = '0'
    end
  end
  a = a + 1 + n
  out[#out + 1] = table.concat(granted)
  out[#out + 1] = close(bucket)
  if clients > 0 then
    a = a + n
    for c = 1, clients do
      out[#out + 1] = close(own[c])
    end
  end
end
return out
"""
