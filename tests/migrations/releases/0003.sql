SELECT accounts.id, accounts.email, accounts.normalised_email, accounts.name, accounts.status, accounts.parent_id, accounts.limits, accounts.created_at
FROM accounts
WHERE accounts.normalised_email = 'admin@localhost'::VARCHAR;

INSERT INTO accounts (id, email, normalised_email, name, status, parent_id, limits, created_at) VALUES ('01a2068caec377e89d5a0910d97b44f4'::VARCHAR, 'admin@localhost'::VARCHAR, 'admin@localhost'::VARCHAR, 'Administrator'::VARCHAR, 'active'::VARCHAR, NULL::VARCHAR, '{}'::VARCHAR, '2026-11-23 03:56:52.803531+00'::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING accounts.id;

SELECT keys.id, keys.account_id, keys.name, keys.environment, keys.prefix, keys.last4, keys.pepper_id, keys.digest, keys.policy, keys.is_admin, keys.bootstrap, keys.created_at, keys.revoked_at, accounts.id AS id_1, accounts.email, accounts.normalised_email, accounts.name AS name_1, accounts.status, accounts.parent_id, accounts.limits, accounts.created_at AS created_at_1
FROM keys JOIN accounts ON accounts.id = keys.account_id
WHERE keys.digest IN ('f12a96ba5b7a145b5396c1fdf6d761e7a2b83fbb8ba3cc0aca98c5032dfceb80'::VARCHAR);

INSERT INTO keys (id, account_id, name, environment, prefix, last4, pepper_id, digest, policy, is_admin, bootstrap, created_at, revoked_at) VALUES ('01a2068caec8760ebbc7bd2c186b844a'::VARCHAR, '01a2068caec377e89d5a0910d97b44f4'::VARCHAR, 'Admin key from the settings (f12a96ba)'::VARCHAR, 'live'::VARCHAR, 'gw_dev_0123'::VARCHAR, 'DEFG'::VARCHAR, 'v1'::VARCHAR, 'f12a96ba5b7a145b5396c1fdf6d761e7a2b83fbb8ba3cc0aca98c5032dfceb80'::VARCHAR, '{"addresses":[],"budget":null,"expires_at":null,"limits":null,"models":[],"referrers":[],"requests_max":null,"scopes":["account:read","account:write","admin:*","billing","inference","keys:read","keys:write"]}'::VARCHAR, 't'::BOOLEAN, 't'::BOOLEAN, '2026-11-23 03:56:52.808397+00'::TIMESTAMP WITH TIME ZONE, NULL::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING keys.id;

INSERT INTO revisions (topic, number) VALUES ('keys'::VARCHAR, '1'::BIGINT) ON CONFLICT (topic) DO UPDATE SET number = (revisions.number + '1'::BIGINT);

SELECT catalog_entries.vendor, catalog_entries.models
FROM catalog_entries;

SELECT prices.id, prices.vendor, prices.model, prices.valid_from, prices.rates, prices.tiers, prices.free, prices.source, prices.author
FROM prices JOIN (SELECT prices.id AS id, row_number() OVER (PARTITION BY prices.vendor, prices.model ORDER BY prices.valid_from DESC, prices.id DESC) AS place
FROM prices
WHERE prices.valid_from <= '2026-11-23 03:56:52.981741+00'::TIMESTAMP WITH TIME ZONE AND prices.source = 'operator'::VARCHAR) AS anon_1 ON anon_1.id = prices.id
WHERE anon_1.place = '1'::INTEGER ORDER BY prices.vendor, prices.model;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:cut:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/cut'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:echo:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/echo'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:fail:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/fail'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:fail-after:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/fail-after'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:free:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/free'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":0,"output":0}'::VARCHAR, '[]'::VARCHAR, 't'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:no-done:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/no-done'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:no-usage:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/no-usage'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:reason:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/reason'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":1000000000,"output":4000000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:slow:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/slow'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:stall:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/stall'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:tool:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/tool'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

SELECT revisions.topic, revisions.number
FROM revisions;

INSERT INTO leases (name, holder, until) VALUES ('expire credit'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('forget outcomes'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('make partitions'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('sweep holds'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE leases.holder = '01a2068caf9773e19dce9b11b24c9614'::VARCHAR OR leases.until <= clock_timestamp() + '00:00:00'::INTERVAL RETURNING leases.name;

SELECT holds.id, holds.account_id, holds.amount, holds.watermark, holds.draws, holds.opened_at, holds.lease_until, holds.metered_key, holds.last_extension, holds.record
FROM holds
WHERE state = 'open' AND holds.lease_until < '2026-11-23 03:56:53.027608+00'::TIMESTAMP WITH TIME ZONE ORDER BY holds.lease_until, holds.id
 LIMIT '500'::INTEGER;

DELETE FROM idempotency WHERE (idempotency.account_id, idempotency.key) IN (SELECT idempotency.account_id, idempotency.key
FROM idempotency
WHERE idempotency.expires_at < '2026-11-23 03:56:53.030861+00'::TIMESTAMP WITH TIME ZONE ORDER BY idempotency.expires_at
 LIMIT '500'::INTEGER) AND idempotency.expires_at < '2026-11-23 03:56:53.030861+00'::TIMESTAMP WITH TIME ZONE;

SELECT credit_accounts.account_id
FROM credit_accounts
WHERE credit_accounts.next_expiry <= '2026-11-23 03:56:53.033948+00'::TIMESTAMP WITH TIME ZONE ORDER BY credit_accounts.next_expiry
 LIMIT '500'::INTEGER;

SELECT EXISTS (SELECT FROM transfers_default WHERE at >= '2026-11-01 00:00:00+00' AND at < '2026-12-01 00:00:00+00');

CREATE TABLE transfers_2026_11 (LIKE transfers INCLUDING ALL);

ALTER TABLE transfers ATTACH PARTITION transfers_2026_11 FOR VALUES FROM ('2026-11-01T00:00:00+00:00') TO ('2026-12-01T00:00:00+00:00');

SELECT EXISTS (SELECT FROM generations_default WHERE started_at >= '2026-11-01 00:00:00+00' AND started_at < '2026-12-01 00:00:00+00');

CREATE TABLE generations_2026_11 (LIKE generations INCLUDING ALL);

ALTER TABLE generations ATTACH PARTITION generations_2026_11 FOR VALUES FROM ('2026-11-01T00:00:00+00:00') TO ('2026-12-01T00:00:00+00:00');

CREATE TABLE transfers_2026_12 (LIKE transfers INCLUDING ALL);

ALTER TABLE transfers ATTACH PARTITION transfers_2026_12 FOR VALUES FROM ('2026-12-01T00:00:00+00:00') TO ('2027-01-01T00:00:00+00:00');

CREATE TABLE generations_2026_12 (LIKE generations INCLUDING ALL);

ALTER TABLE generations ATTACH PARTITION generations_2026_12 FOR VALUES FROM ('2026-12-01T00:00:00+00:00') TO ('2027-01-01T00:00:00+00:00');

CREATE TABLE transfers_2027_01 (LIKE transfers INCLUDING ALL);

ALTER TABLE transfers ATTACH PARTITION transfers_2027_01 FOR VALUES FROM ('2027-01-01T00:00:00+00:00') TO ('2027-02-01T00:00:00+00:00');

CREATE TABLE generations_2027_01 (LIKE generations INCLUDING ALL);

ALTER TABLE generations ATTACH PARTITION generations_2027_01 FOR VALUES FROM ('2027-01-01T00:00:00+00:00') TO ('2027-02-01T00:00:00+00:00');

INSERT INTO accounts (id, email, normalised_email, name, status, parent_id, limits, created_at) VALUES ('01a2068cb2c473d0934cda5626040cfa'::VARCHAR, 'ann@example.com'::VARCHAR, 'ann@example.com'::VARCHAR, ''::VARCHAR, 'active'::VARCHAR, NULL::VARCHAR, '{}'::VARCHAR, '2026-11-23 03:56:53.828273+00'::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING accounts.id;

SELECT accounts.id, accounts.email, accounts.normalised_email, accounts.name, accounts.status, accounts.parent_id, accounts.limits, accounts.created_at
FROM accounts
WHERE accounts.id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{grant:admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74}'::text[]);

INSERT INTO credit_accounts (account_id, funded, free, held, charged, removed, lots)
SELECT id, 0, 0, 0, 0, 0, '[]' FROM unnest('{01a2068caec377e89d5a0910d97b44f4}'::text[]) AS new(id)
ON CONFLICT DO NOTHING;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{grant:admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74}'::text[]);

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 5000000000, 0, 0, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,5000000000,0,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[["grant:admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74", "01a2068caec377e89d5a0910d97b44f4"]]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "grant:admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74", "2026-11-23T03:56:54.748934Z", "grant", "house:promotions", "01a2068caec377e89d5a0910d97b44f4", 5000000000, "admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74", "first invoice", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",5000000000]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[]'::jsonb) AS new;

INSERT INTO keys (id, account_id, name, environment, prefix, last4, pepper_id, digest, policy, is_admin, bootstrap, created_at, revoked_at) VALUES ('01a2068cbae87363994dfa842a09ab78'::VARCHAR, '01a2068cb2c473d0934cda5626040cfa'::VARCHAR, 'laptop'::VARCHAR, 'live'::VARCHAR, 'gw_live_qPXs'::VARCHAR, 'cevk'::VARCHAR, 'v1'::VARCHAR, '9b69d73c69c67a728c19c22e60d3997224b51f3f55b6e588c362a98a0c513e99'::VARCHAR, '{"addresses":[],"budget":null,"expires_at":null,"limits":null,"models":[],"referrers":[],"requests_max":null,"scopes":["account:read","inference","keys:read"]}'::VARCHAR, 'f'::BOOLEAN, 'f'::BOOLEAN, '2026-11-23 03:56:55.912178+00'::TIMESTAMP WITH TIME ZONE, NULL::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING keys.id;

INSERT INTO revisions (topic, number) VALUES ('keys'::VARCHAR, '1'::BIGINT) ON CONFLICT (topic) DO UPDATE SET number = (revisions.number + '1'::BIGINT);

INSERT INTO leases (name, holder, until) VALUES ('expire credit'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('forget outcomes'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('make partitions'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('sweep holds'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE leases.holder = '01a2068caf9773e19dce9b11b24c9614'::VARCHAR OR leases.until <= clock_timestamp() + '00:00:00'::INTERVAL RETURNING leases.name;

SELECT keys.id, keys.account_id, keys.name, keys.environment, keys.prefix, keys.last4, keys.pepper_id, keys.digest, keys.policy, keys.is_admin, keys.bootstrap, keys.created_at, keys.revoked_at
FROM keys
WHERE keys.account_id = '01a2068cb2c473d0934cda5626040cfa'::VARCHAR AND keys.revoked_at IS NULL ORDER BY keys.id
 LIMIT '51'::INTEGER;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:cut:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/cut'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:echo:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/echo'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:fail:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/fail'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:fail-after:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/fail-after'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:free:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/free'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":0,"output":0}'::VARCHAR, '[]'::VARCHAR, 't'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:no-done:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/no-done'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:no-usage:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/no-usage'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:reason:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/reason'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":1000000000,"output":4000000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:slow:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/slow'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:stall:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/stall'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('sandbox:tool:1'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/tool'::VARCHAR, '2026-01-01 00:00:00+00'::TIMESTAMP WITH TIME ZONE, '{"input":500000000,"output":1500000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'sandbox'::VARCHAR, ''::VARCHAR) ON CONFLICT DO NOTHING;

INSERT INTO prices (id, vendor, model, valid_from, rates, tiers, free, source, author) VALUES ('01a2068cc5747b0a9be16d99d413820a'::VARCHAR, 'sandbox'::VARCHAR, 'sandbox/echo'::VARCHAR, '2026-11-23 03:56:58.612771+00'::TIMESTAMP WITH TIME ZONE, '{"input":100000000,"output":400000000}'::VARCHAR, '[]'::VARCHAR, 'f'::BOOLEAN, 'operator'::VARCHAR, 'command line'::VARCHAR) ON CONFLICT DO NOTHING RETURNING prices.id;

INSERT INTO revisions (topic, number) VALUES ('prices'::VARCHAR, '1'::BIGINT) ON CONFLICT (topic) DO UPDATE SET number = (revisions.number + '1'::BIGINT);

INSERT INTO idempotency (account_id, key, fingerprint, expires_at) VALUES ('01a2068caec377e89d5a0910d97b44f4'::VARCHAR, 'key-0'::VARCHAR, '41e7eb988bff40fd78f3a34ad2eb01d1bd2f134e5cb99fbcc960ac3e8c4e412a'::VARCHAR, '2026-11-23 05:01:58.836944+00'::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING idempotency.key;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{01a2068cc6507a94aeb124d66d65da3e}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{01a2068cc6507a94aeb124d66d65da3e}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{}'::text[]);

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 4999979500, 20500, 0, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,4999979500,20500,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[["01a2068cc6507a94aeb124d66d65da3e", "01a2068caec377e89d5a0910d97b44f4", "open", 20500, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",20500]]", "2026-11-23T03:56:58.839408Z", "2026-11-23T04:11:58.839408Z", null, null, -1, "{\"id\":\"01a2068cc6507a94aeb124d66d65da3e\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":false,\"started_at\":\"2026-11-23T03:56:58.839408Z\"}"]]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "hold:01a2068cc6507a94aeb124d66d65da3e", "2026-11-23T03:56:58.839408Z", "hold", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 20500, "01a2068cc6507a94aeb124d66d65da3e", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",20500]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[]'::jsonb) AS new;

UPDATE idempotency SET expires_at='2026-11-24 03:56:58.848208+00'::TIMESTAMP WITH TIME ZONE, status='200'::SMALLINT, headers='[["x-request-id","01a2068cc6507a94aeb124d66d65da3e"],["x-ratelimit-limit-requests","250"],["x-ratelimit-remaining-requests","99"],["x-ratelimit-reset-requests","240ms"],["x-ratelimit-limit-tokens","250000"],["x-ratelimit-remaining-tokens","249971"],["x-ratelimit-reset-tokens","6ms"],["x-gatewayz-vendor","sandbox"],["x-gatewayz-model","sandbox/echo"],["x-gatewayz-cost-usd","0.000008"],["x-gatewayz-balance-usd","4.999992"]]'::VARCHAR, body='\x7b226f626a656374223a22636861742e636f6d706c6574696f6e222c226964223a2263686174636d706c2d643535343861353336653932663336356238653265316433222c2263726561746564223a313739353430363231382c226d6f64656c223a226563686f222c2263686f69636573223a5b7b22696e646578223a302c226d657373616765223a7b22726f6c65223a22617373697374616e74222c22636f6e74656e74223a226f6e652074776f20746872656520666f7572222c227265667573616c223a6e756c6c7d2c226c6f6770726f6273223a6e756c6c2c2266696e6973685f726561736f6e223a2273746f70227d5d2c227573616765223a7b2270726f6d70745f746f6b656e73223a342c22636f6d706c6574696f6e5f746f6b656e73223a342c22746f74616c5f746f6b656e73223a382c2270726f6d70745f746f6b656e735f64657461696c73223a7b226361636865645f746f6b656e73223a302c22617564696f5f746f6b656e73223a307d2c22636f6d706c6574696f6e5f746f6b656e735f64657461696c73223a7b22726561736f6e696e675f746f6b656e73223a302c22617564696f5f746f6b656e73223a302c2261636365707465645f70726564696374696f6e5f746f6b656e73223a302c2272656a65637465645f70726564696374696f6e5f746f6b656e73223a307d2c22636f7374223a302e3030303030387d7d'::BYTEA WHERE idempotency.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR AND idempotency.key = 'key-0'::VARCHAR AND idempotency.fingerprint = '41e7eb988bff40fd78f3a34ad2eb01d1bd2f134e5cb99fbcc960ac3e8c4e412a'::VARCHAR AND idempotency.status IS NULL;

INSERT INTO idempotency (account_id, key, fingerprint, expires_at) VALUES ('01a2068caec377e89d5a0910d97b44f4'::VARCHAR, 'key-0'::VARCHAR, '41e7eb988bff40fd78f3a34ad2eb01d1bd2f134e5cb99fbcc960ac3e8c4e412a'::VARCHAR, '2026-11-23 05:01:58.852417+00'::TIMESTAMP WITH TIME ZONE) ON CONFLICT DO NOTHING RETURNING idempotency.key;

UPDATE idempotency SET fingerprint='41e7eb988bff40fd78f3a34ad2eb01d1bd2f134e5cb99fbcc960ac3e8c4e412a'::VARCHAR, expires_at='2026-11-23 05:01:58.852417+00'::TIMESTAMP WITH TIME ZONE, status=NULL::SMALLINT, headers=NULL::VARCHAR, body=NULL::BYTEA WHERE idempotency.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR AND idempotency.key = 'key-0'::VARCHAR AND idempotency.expires_at <= '2026-11-23 03:56:58.852417+00'::TIMESTAMP WITH TIME ZONE RETURNING idempotency.key;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{01a2068cc6507a94aeb124d66d65da3e}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{01a2068cc6507a94aeb124d66d65da3e}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{01a2068cc6507a94aeb124d66d65da3e}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{}'::text[]);

SELECT idempotency.account_id, idempotency.key, idempotency.fingerprint, idempotency.expires_at, idempotency.status, idempotency.headers, idempotency.body
FROM idempotency
WHERE idempotency.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR AND idempotency.key = 'key-0'::VARCHAR;

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 4999992000, 0, 8000, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,4999992000,0,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[["01a2068cc6507a94aeb124d66d65da3e", "charged", "2026-11-23T03:56:58.848052Z"]]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "charge:01a2068cc6507a94aeb124d66d65da3e", "2026-11-23T03:56:58.848052Z", "charge", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 8000, "01a2068cc6507a94aeb124d66d65da3e", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",8000]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "01a2068cc6507a94aeb124d66d65da3e", "2026-11-23T03:56:58.839408Z", "01a2068caec8760ebbc7bd2c186b844a", "sandbox/echo", "sandbox", "completed", 4, 4, 8000, "{\"id\":\"01a2068cc6507a94aeb124d66d65da3e\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":false,\"started_at\":\"2026-11-23T03:56:58.839408Z\",\"vendor\":\"sandbox\",\"vendor_model\":\"echo\",\"price_id\":\"sandbox:echo:1\",\"markup_ppm\":1000000,\"usage\":{\"input\":4,\"output\":4,\"requests\":1},\"cost\":{\"nanos\":8000},\"finish_reason\":\"stop\",\"attempts\":[{\"vendor\":\"sandbox\"}],\"first_token_ms\":0}"]]'::jsonb) AS new;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{01a2068cc66a7b1ca7122ac05ef4fba3}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{01a2068cc66a7b1ca7122ac05ef4fba3}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{}'::text[]);

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 4999969500, 22500, 8000, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,4999969500,22500,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[["01a2068cc66a7b1ca7122ac05ef4fba3", "01a2068caec377e89d5a0910d97b44f4", "open", 22500, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",22500]]", "2026-11-23T03:56:58.859121Z", "2026-11-23T04:11:58.859121Z", null, null, -1, "{\"id\":\"01a2068cc66a7b1ca7122ac05ef4fba3\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":true,\"started_at\":\"2026-11-23T03:56:58.859121Z\"}"]]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "hold:01a2068cc66a7b1ca7122ac05ef4fba3", "2026-11-23T03:56:58.859121Z", "hold", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 22500, "01a2068cc66a7b1ca7122ac05ef4fba3", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",22500]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[]'::jsonb) AS new;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{01a2068cc66a7b1ca7122ac05ef4fba3}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{01a2068cc66a7b1ca7122ac05ef4fba3,01a2068cc66d756881f9668a627686b3}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{01a2068cc66a7b1ca7122ac05ef4fba3,01a2068cc66d756881f9668a627686b3}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{}'::text[]);

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 4999963500, 20500, 16000, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,4999963500,20500,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[["01a2068cc66d756881f9668a627686b3", "01a2068caec377e89d5a0910d97b44f4", "open", 20500, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",20500]]", "2026-11-23T03:56:58.861571Z", "2026-11-23T04:11:58.861571Z", null, null, -1, "{\"id\":\"01a2068cc66d756881f9668a627686b3\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":false,\"started_at\":\"2026-11-23T03:56:58.861571Z\"}"]]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[["01a2068cc66a7b1ca7122ac05ef4fba3", "charged", "2026-11-23T03:56:58.860753Z"]]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "charge:01a2068cc66a7b1ca7122ac05ef4fba3", "2026-11-23T03:56:58.860753Z", "charge", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 8000, "01a2068cc66a7b1ca7122ac05ef4fba3", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",8000]]"], ["01a2068caec377e89d5a0910d97b44f4", "hold:01a2068cc66d756881f9668a627686b3", "2026-11-23T03:56:58.861571Z", "hold", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 20500, "01a2068cc66d756881f9668a627686b3", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",20500]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "01a2068cc66a7b1ca7122ac05ef4fba3", "2026-11-23T03:56:58.859121Z", "01a2068caec8760ebbc7bd2c186b844a", "sandbox/echo", "sandbox", "completed", 4, 4, 8000, "{\"id\":\"01a2068cc66a7b1ca7122ac05ef4fba3\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":true,\"started_at\":\"2026-11-23T03:56:58.859121Z\",\"vendor\":\"sandbox\",\"vendor_model\":\"echo\",\"price_id\":\"sandbox:echo:1\",\"markup_ppm\":1000000,\"usage\":{\"input\":4,\"output\":4,\"requests\":1},\"cost\":{\"nanos\":8000},\"finish_reason\":\"stop\",\"attempts\":[{\"vendor\":\"sandbox\"}],\"first_token_ms\":0}"]]'::jsonb) AS new;

WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY('{01a2068caec377e89d5a0910d97b44f4}'::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY('{01a2068cc66d756881f9668a627686b3}'::text[]) THEN record END)
FROM holds WHERE id = ANY('{01a2068cc66d756881f9668a627686b3}'::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest('{}'::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY('{01a2068cc66d756881f9668a627686b3}'::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY('{}'::text[]);

WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", 5000000000, 4999976000, 0, 24000, 0, "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",\"admin\",5000000000,4999976000,0,1795406214748934,253370764800000000,false,false]]", null]]'::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements('[]'::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements('[]'::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements('[["01a2068cc66d756881f9668a627686b3", "charged", "2026-11-23T03:56:58.862847Z"]]'::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements('[]'::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements('[]'::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "charge:01a2068cc66d756881f9668a627686b3", "2026-11-23T03:56:58.862847Z", "charge", "01a2068caec377e89d5a0910d97b44f4", "house:revenue", 8000, "01a2068cc66d756881f9668a627686b3", "", "[[\"admin:01a2068caec377e89d5a0910d97b44f4:01a2068cb65c7e76b3427eaf358a7e74\",8000]]"]]'::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements('[["01a2068caec377e89d5a0910d97b44f4", "01a2068cc66d756881f9668a627686b3", "2026-11-23T03:56:58.861571Z", "01a2068caec8760ebbc7bd2c186b844a", "sandbox/echo", "sandbox", "completed", 4, 4, 8000, "{\"id\":\"01a2068cc66d756881f9668a627686b3\",\"account_id\":\"01a2068caec377e89d5a0910d97b44f4\",\"key_id\":\"01a2068caec8760ebbc7bd2c186b844a\",\"model\":\"sandbox/echo\",\"dialect\":\"openai_chat\",\"streamed\":false,\"started_at\":\"2026-11-23T03:56:58.861571Z\",\"vendor\":\"sandbox\",\"vendor_model\":\"echo\",\"price_id\":\"sandbox:echo:1\",\"markup_ppm\":1000000,\"usage\":{\"input\":4,\"output\":4,\"requests\":1},\"cost\":{\"nanos\":8000},\"finish_reason\":\"stop\",\"attempts\":[{\"vendor\":\"sandbox\"}],\"first_token_ms\":0}"]]'::jsonb) AS new;

SELECT generations.record
FROM generations
WHERE generations.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR AND generations.id = '01a2068cc66d756881f9668a627686b3'::VARCHAR;

SELECT credit_accounts.account_id, credit_accounts.funded, credit_accounts.held, credit_accounts.charged, credit_accounts.removed, credit_accounts.lots
FROM credit_accounts
WHERE credit_accounts.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR;

SELECT transfers.account_id, transfers.id, transfers.at, transfers.kind, transfers.debit, transfers.credit, transfers.amount, transfers.reference, transfers.reason, transfers.draws
FROM transfers
WHERE transfers.account_id = '01a2068caec377e89d5a0910d97b44f4'::VARCHAR AND kind NOT IN ('hold', 'extend', 'void') ORDER BY transfers.at DESC, transfers.id DESC
 LIMIT '51'::INTEGER;

INSERT INTO leases (name, holder, until) VALUES ('expire credit'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('forget outcomes'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('make partitions'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('sweep holds'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE leases.holder = '01a2068caf9773e19dce9b11b24c9614'::VARCHAR OR leases.until <= clock_timestamp() + '00:00:00'::INTERVAL RETURNING leases.name;

SELECT accounts.id, accounts.email, accounts.normalised_email, accounts.name, accounts.status, accounts.parent_id, accounts.limits, accounts.created_at
FROM accounts ORDER BY accounts.id
 LIMIT '51'::INTEGER;

WITH sides AS (
    SELECT account_id, funded AS has_funded, free AS has_free, held AS has_held, charged AS has_charged,
        removed AS has_removed, 0 AS funded, 0 AS held, 0 AS charged, 0 AS removed
    FROM credit_accounts
    UNION ALL
    SELECT account_id, 0, 0, 0, 0, 0,
        CASE WHEN kind = 'grant' THEN amount ELSE 0 END,
        0,
        CASE WHEN kind IN ('charge', 'excess') THEN amount ELSE 0 END,
        CASE WHEN kind IN ('expiry', 'withdrawal', 'refund') THEN amount ELSE 0 END
    FROM transfers
    UNION ALL
    SELECT account_id, 0, 0, 0, 0, 0, 0, amount, 0, 0 FROM holds WHERE state = 'open'
), sums AS (
    SELECT account_id, SUM(has_funded) AS has_funded, SUM(has_free) AS has_free, SUM(has_held) AS has_held,
        SUM(has_charged) AS has_charged, SUM(has_removed) AS has_removed, SUM(funded) AS funded,
        SUM(held) AS held, SUM(charged) AS charged, SUM(removed) AS removed
    FROM sides GROUP BY account_id
)
SELECT account_id, 'funded', has_funded, funded FROM sums WHERE has_funded <> funded
UNION ALL SELECT account_id, 'held', has_held, held FROM sums WHERE has_held <> held
UNION ALL SELECT account_id, 'charged', has_charged, charged FROM sums WHERE has_charged <> charged
UNION ALL SELECT account_id, 'removed', has_removed, removed FROM sums WHERE has_removed <> removed
UNION ALL SELECT account_id, 'free', has_free, funded - held - charged - removed FROM sums
    WHERE has_free <> funded - held - charged - removed;

SELECT account_id, 'lot ' || lot, SUM(stored), SUM(recomputed) FROM (
    SELECT account_id, part.value->>0 AS lot,
        CAST(part.value->>3 AS BIGINT) + CAST(part.value->>4 AS BIGINT) AS stored, 0 AS recomputed
    FROM credit_accounts, json_array_elements(lots::json) AS part(value)
    UNION ALL
    SELECT account_id, part.value->>0, 0,
        CASE WHEN kind = 'grant' THEN CAST(part.value->>1 AS BIGINT) ELSE -CAST(part.value->>1 AS BIGINT) END
    FROM transfers, json_array_elements(draws::json) AS part(value) WHERE kind NOT IN ('hold', 'extend', 'void')
) AS sides GROUP BY account_id, lot HAVING SUM(stored) <> SUM(recomputed);

SELECT account_id, 'held of lot ' || lot, SUM(stored), SUM(recomputed) FROM (
    SELECT account_id, part.value->>0 AS lot, CAST(part.value->>4 AS BIGINT) AS stored, 0 AS recomputed
    FROM credit_accounts, json_array_elements(lots::json) AS part(value)
    UNION ALL
    SELECT account_id, part.value->>0, 0, CAST(part.value->>1 AS BIGINT)
    FROM holds, json_array_elements(draws::json) AS part(value) WHERE state = 'open'
) AS sides GROUP BY account_id, lot HAVING SUM(stored) <> SUM(recomputed);

SELECT account_id, 'negative lot ' || (part.value->>0), CAST(part.value->>3 AS BIGINT), 0
FROM credit_accounts, json_array_elements(lots::json) AS part(value)
WHERE CAST(part.value->>3 AS BIGINT) < 0 OR CAST(part.value->>4 AS BIGINT) < 0;

SELECT holds.account_id, 'hold ' || holds.id, holds.amount, COALESCE(pending.amount, 0)
FROM holds LEFT JOIN (
    SELECT account_id, reference, SUM(amount) AS amount FROM transfers
    WHERE kind IN ('hold', 'extend') GROUP BY account_id, reference
) AS pending ON pending.account_id = holds.account_id AND pending.reference = holds.id
WHERE state = 'open' AND (pending.amount IS NULL OR pending.amount <> holds.amount);

SELECT holds.account_id, 'ends of hold ' || holds.id, CASE state WHEN 'open' THEN 0 ELSE 1 END,
    COALESCE(ended.times, 0)
FROM holds LEFT JOIN (
    SELECT account_id, reference, COUNT(*) AS times FROM transfers
    WHERE kind IN ('charge', 'void') GROUP BY account_id, reference
) AS ended ON ended.account_id = holds.account_id AND ended.reference = holds.id
WHERE COALESCE(ended.times, 0) <> CASE state WHEN 'open' THEN 0 ELSE 1 END;

SELECT key_meters.account_id, 'held by key ' || key_meters.key_id, key_meters.held,
    COALESCE(SUM(holds.amount), 0)
FROM key_meters LEFT JOIN holds ON holds.metered_key = key_meters.key_id AND holds.state = 'open'
GROUP BY key_meters.account_id, key_meters.key_id, key_meters.held
HAVING key_meters.held <> COALESCE(SUM(holds.amount), 0);

INSERT INTO leases (name, holder, until) VALUES ('expire credit'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('forget outcomes'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('make partitions'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)), ('sweep holds'::VARCHAR, '01a2068caf9773e19dce9b11b24c9614'::VARCHAR, (clock_timestamp() + '00:00:10'::INTERVAL)) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE leases.holder = '01a2068caf9773e19dce9b11b24c9614'::VARCHAR OR leases.until <= clock_timestamp() + '00:00:00'::INTERVAL RETURNING leases.name;

DELETE FROM leases WHERE leases.holder = '01a2068caf9773e19dce9b11b24c9614'::VARCHAR;

