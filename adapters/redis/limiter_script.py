"""Rate limits as one Lua script: many operations of one process in one round trip, each of them all or nothing.

The arithmetic is that of `domain.limits`, operation for operation, so that Redis and one process's memory come to the
same verdicts.  Time is Redis's own, counted from EPOCH so that a double keeps it finer than a tenth of a microsecond.

KEYS    two for each slot: the state of a subject's windows, and the leases on its places.
ARGV    the operations, how long a lease lives in seconds, for each slot the number of its limits, then the limits:
        `concurrent` and the windows.
A slot is a subject with its limits; most subjects have the same ones, so these are sent once.  A state is the text of
its windows and an arrival time for each, so that changed limits are noticed and what was used stays used.

An operation is a kind, a number, the slots, a lease and a blob.  ACQUIRE, HIT and PEEK answer with a verdict of fixed
size, PEEK takes nothing, an admitted ACQUIRE adds the arrival times of its token windows; RELEASE sends these back as
its blob.
"""

from __future__ import annotations

from typing import Final

from adapters.redis.client import Script

EPOCH: Final = 1_767_225_600
"""2026-01-01 in UTC."""

ACQUIRE, RELEASE, HIT, BOOK, RENEW, PEEK = 1, 2, 3, 4, 5, 6
ADMITTED, LATE, FULL = 0, 1, 2
NOWHERE: Final = 255

LIMITER: Final = Script("""
local time = redis.call('TIME')
local now = time[1] - 1767225600 + time[2] / 1000000
local TOLERANCE = 1e-6
local KEPT_LONGER_MS = 10000
local slots = #KEYS / 2
local operations, lease_s, numbers = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local specs, concurrent, states, running, leased = {}, {}, {}, {}, {}
local formats, replies = {}, {}

local function parse(text, at)
  local begin, spec, count = at, {}, nil
  count, at = struct.unpack('<B', text, at)
  for i = 1, count do
    local interval, burst, burst_s, tokens, name
    interval, burst, burst_s, tokens, name, at = struct.unpack('<dddBBc0', text, at)
    spec[i] = {interval = interval, burst = burst, burst_s = burst_s, tokens = tokens == 1, name = name,
      share = 1 / math.max(burst_s, 1e-9)}
  end
  spec.text = string.sub(text, begin, at - 1)
  spec.format = '<' .. string.rep('d', count)
  return spec, at
end

local function stored(slot)
  local key, spec = KEYS[2 * slot - 1], specs[slot]
  local state = states[key]
  if state then return state end
  local value = redis.call('GET', key)
  if not value then
    state = {spec = spec, tats = {}}
    for i = 1, #spec do state.tats[i] = 0 end
  else
    local at = #spec.text + 1
    if string.sub(value, 1, at - 1) ~= spec.text then spec, at = parse(value, 1) end
    state = {spec = spec, tats = {struct.unpack(spec.format, value, at)}}
    state.tats[#spec + 1] = nil
  end
  states[key] = state
  return state
end

local function current(slot)
  local state, spec = stored(slot), specs[slot]
  if state.spec.text ~= spec.text then
    local used, tats = {}, {}
    for i, window in ipairs(state.spec) do
      used[window.name] = math.max(0, state.tats[i] - now) / window.interval
    end
    for i, window in ipairs(spec) do tats[i] = now + (used[window.name] or 0) * window.interval end
    state.spec, state.tats, state.changed = spec, tats, true
  end
  return state
end

local function places_taken(slot)
  local key = KEYS[2 * slot]
  if not running[key] then running[key] = redis.call('ZCARD', key) end
  return running[key]
end

local function is_full(slot)
  if places_taken(slot) < concurrent[slot] then return false end
  local key = KEYS[2 * slot]
  running[key] = running[key] - redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return running[key] >= concurrent[slot]
end

local function take_place(slot, lease)
  local key = KEYS[2 * slot]
  local added = redis.call('ZADD', key, now + lease_s, lease)
  if running[key] then running[key] = running[key] + added end
  leased[key] = true
end

local function judged(chosen, count, tokens)
  local longest, who, where, booked = 0, 1, 1, {}
  for i = 1, count do
    local state, later = current(chosen[i]), {}
    for w, window in ipairs(state.spec) do
      local tat = state.tats[w]
      local start = tat > now and tat or now
      local cost = window.tokens and tokens or 1
      local wait = start - now + (cost < window.burst and cost or window.burst) * window.interval - window.burst_s
      if wait > longest and wait > TOLERANCE then longest, who, where = wait, i, w end
      later[w] = start + cost * window.interval
    end
    booked[i] = later
  end
  return longest, who, where, booked
end

local function headroom(state, w)
  local window = state.spec[w]
  local used = math.max(0, state.tats[w] - now)
  return math.max(0, math.floor((window.burst_s - used + TOLERANCE) / window.interval)), used
end

local function verdict(status, who, where, wait, chosen, count)
  local requests, tokens = {-1, 256, 256, 0, 0}, {-1, 256, 256, 0, 0}
  for i = 1, count do
    local state = stored(chosen[i])
    for w, window in ipairs(state.spec) do
      local tat = state.tats[w]
      local used = tat > now and (tat - now) * window.share or 0
      local tightest = window.tokens and tokens or requests
      if used > tightest[1] then tightest[1], tightest[2], tightest[3] = used, i, w end
    end
  end
  for _, tightest in ipairs({requests, tokens}) do
    if tightest[2] < 256 then
      tightest[4], tightest[5] = headroom(stored(chosen[tightest[2]]), tightest[3])
    end
  end
  replies[#replies + 1] = struct.pack('<BBBdBBddBBdd', status, who - 1, where - 1, wait,
    requests[2] - 1, requests[3] - 1, requests[4], requests[5], tokens[2] - 1, tokens[3] - 1, tokens[4], tokens[5])
end

local function acquire(chosen, count, tokens, lease, peeks)
  local wait, who, where, booked = judged(chosen, count, tokens)
  if wait > 0 then return verdict(1, who, where, wait, chosen, count) end
  if lease ~= '' or peeks then
    for i = 1, count do
      if is_full(chosen[i]) then return verdict(2, i, 1, 1, chosen, count) end
    end
  end
  if peeks then return verdict(0, 1, 1, 0, chosen, count) end
  for i = 1, count do
    local state = stored(chosen[i])
    state.tats, state.changed = booked[i], true
    if lease ~= '' then take_place(chosen[i], lease) end
  end
  verdict(0, 1, 1, 0, chosen, count)
  if lease ~= '' then
    for i = 1, count do
      for w, window in ipairs(specs[chosen[i]]) do
        if window.tokens then replies[#replies + 1] = struct.pack('<d', booked[i][w]) end
      end
    end
  end
end

-- The limits may have changed since the request was admitted, so windows are found by name.
local function correct(slot, over, until_by_name)
  local state = stored(slot)
  for w, window in ipairs(state.spec) do
    if window.tokens then
      local tat = state.tats[w]
      if over >= 0 then
        tat = math.max(tat, now) + over * window.interval
      else
        local undrained = math.max(0, (until_by_name[window.name] or 0) - now)
        tat = tat - math.min(-over * window.interval, undrained)
      end
      state.tats[w] = tat
    end
  end
  state.changed = true
end

local function release(chosen, count, over, lease, booked)
  local at = 1
  for i = 1, count do
    local slot, until_by_name = chosen[i], {}
    if booked ~= '' then
      for _, window in ipairs(specs[slot]) do
        if window.tokens then until_by_name[window.name], at = struct.unpack('<d', booked, at) end
      end
    end
    -- Only who still holds a place gives it back, so that a release may be sent twice.
    local key = KEYS[2 * slot]
    if redis.call('ZREM', key, lease) == 1 then
      if running[key] then running[key] = running[key] - 1 end
      if over ~= 0 then correct(slot, over, until_by_name) end
    end
  end
end

-- Add units that were used elsewhere, whether they fit or not.
local function book(slot, units)
  local state = current(slot)
  local used = {struct.unpack(state.spec.format, units)}
  for w, window in ipairs(state.spec) do
    if used[w] > 0 then state.tats[w] = math.max(state.tats[w], now) + used[w] * window.interval end
  end
  state.changed = true
end

local limits = {}
for slot = 1, slots do
  local number = struct.unpack('<H', numbers, 2 * slot - 1)
  if not limits[number] then
    local text = ARGV[3 + number]
    limits[number] = {concurrent = struct.unpack('<d', text), spec = parse(text, 9)}
  end
  concurrent[slot], specs[slot] = limits[number].concurrent, limits[number].spec
end

local at = 1
while at <= #operations do
  local kind, count
  kind, count, at = struct.unpack('<BB', operations, at)
  if not formats[count] then formats[count] = '<d' .. string.rep('H', count) .. 'Bc0Hc0' end
  local values = {struct.unpack(formats[count], operations, at)}
  local number, lease, blob = values[1], values[count + 2], values[count + 3]
  at = values[count + 4]
  table.remove(values, 1)
  if kind == 1 or kind == 3 or kind == 6 then
    acquire(values, count, number, lease, kind == 6)
  elseif kind == 2 then
    release(values, count, number, lease, blob)
  elseif kind == 4 then
    book(values[1], blob)
  else
    for i = 1, count do take_place(values[i], lease) end
  end
end

for key, state in pairs(states) do
  if state.changed then
    local last = 0
    for _, tat in ipairs(state.tats) do if tat > last then last = tat end end
    if last > now then
      local kept_ms = math.min((last - now) * 1000, 1e12) + KEPT_LONGER_MS
      local value = state.spec.text .. struct.pack(state.spec.format, unpack(state.tats))
      redis.call('SET', key, value, 'PX', string.format('%.0f', kept_ms))
    else
      redis.call('DEL', key)
    end
  end
end
for key in pairs(leased) do
  redis.call('PEXPIRE', key, string.format('%.0f', lease_s * 1000 + KEPT_LONGER_MS))
end
return table.concat(replies)
""")
