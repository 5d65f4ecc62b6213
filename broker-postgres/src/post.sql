-- Posting from SQL: what is posted in a transaction is delivered exactly if that commits, and in the order of the commits.
-- Run log.sql before it. Both may be run again at any time, by the owner of the schema.
--
-- Every function runs with the rights of its caller: a row may have columns whose types bring functions of their own, which
-- are called where it becomes JSON. Of temporary objects, which come first where a path does not name them, none is meant.

-- A trigger runs as whoever writes to its table, so everybody may call the functions; they do nothing that NOTIFY does not.
GRANT USAGE ON SCHEMA broker TO PUBLIC;

-- FNV-1a in 64 bits, as 16 hexadecimal digits; in two halves, since bigint has a sign.
CREATE OR REPLACE FUNCTION broker.hash_of(bytes bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  high int8 := x'cbf29ce4'::int8;
  low int8 := x'84222325'::int8;
  product int8;
BEGIN
  FOR i IN 0 .. length(bytes) - 1 LOOP
    low := low # get_byte(bytes, i);
    product := low * 435;
    high := (high * 435 + (product >> 32) + (low << 8)) & 4294967295;
    low := product & 4294967295;
  END LOOP;
  RETURN lpad(to_hex(high), 8, '0') || lpad(to_hex(low), 8, '0');
END $$;

-- Notifies the nodes of a frame, in pieces of at most 7,999 bytes.
CREATE OR REPLACE FUNCTION broker.send(channel text, frame bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  room CONSTANT int := 5979;
  name bytea := convert_to(channel, 'UTF8');
  content bytea := set_byte('\x00'::bytea, 0, length(name)) || name || frame;
  hash text := broker.hash_of(name);
  bucket text := 'broker_' || get_byte(decode(right(hash, 2), 'hex'), 0) % 64;
  last int := (length(content) - 1) / room;
  -- Keeps equal pieces of a transaction apart, of which the server would deliver one.
  counter int8 := coalesce(nullif(current_setting('broker.counter', true), '')::int8, floor(random() * 4294967296)::int8);
  letter text;
  part text;
BEGIN
  FOR i IN 0 .. last LOOP
    letter := CASE WHEN last = 0 THEN 'w' WHEN i = 0 THEN 'b' WHEN i = last THEN 'e' ELSE 'm' END;
    part := rtrim(translate(encode(substr(content, i * room + 1, room), 'base64'), E'\n', ''), '=');
    PERFORM pg_notify(bucket, letter || hash || '.' || lpad(to_hex((counter + i) & 4294967295), 8, '0') || '.' || part);
  END LOOP;
  PERFORM set_config('broker.counter', ((counter + last + 1) & 4294967295)::text, true);
END $$;

-- Why a text is no name of a channel; null if it is one.
CREATE OR REPLACE FUNCTION broker.broken_rule(channel text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
  SELECT CASE
    WHEN channel IS NULL THEN 'is null'
    WHEN octet_length(convert_to(channel, 'UTF8')) NOT BETWEEN 1 AND 251 THEN 'has to have 1 to 251 bytes'
    WHEN channel COLLATE "C" ~ '[*>#\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
      THEN 'has white space, a control character, or one of * > #'
    WHEN channel COLLATE "C" ~ '(^|\.)\$' THEN 'has a segment that begins with $, which is reserved'
    WHEN channel COLLATE "C" ~ '(^\.|\.\.|\.$)' THEN 'has an empty segment'
  END
$$;

-- A text of at most 255 or 65,535 bytes after its length, in one byte or in two.
CREATE OR REPLACE FUNCTION broker.sized(what text, value text, size_bytes int) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  bytes bytea := convert_to(value, 'UTF8');
  size bytea := substr(int4send(length(bytes)), 5 - size_bytes);
BEGIN
  IF length(bytes) >= 1 << (8 * size_bytes) THEN
    RAISE EXCEPTION 'broker.post: % has % bytes, and at most % are possible', what, length(bytes), (1 << (8 * size_bytes)) - 1
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN size || bytes;
END $$;

-- Posts JSON to a channel, named as on the wire: with a prefix in front of it where the nodes have one. Delivered to every
-- subscriber if the transaction commits, and by none if it does not.
CREATE OR REPLACE FUNCTION broker.post(channel text, payload jsonb, type text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  wrong text := broker.broken_rule(channel);
  count int := 0;
  pairs bytea := '';
  header record;
  frame bytea;
BEGIN
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'broker.post: channel % %', coalesce(quote_literal(left(channel, 300)), ''), wrong
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF payload IS NULL THEN
    RAISE EXCEPTION 'broker.post: the payload is null; for the JSON value post ''null''::jsonb'
      USING ERRCODE = 'null_value_not_allowed';
  ELSIF headers IS NOT NULL AND jsonb_typeof(headers) <> 'object' THEN
    RAISE EXCEPTION 'broker.post: the headers have to be an object of texts, {"name": "value"}'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR header IN SELECT key, value, jsonb_typeof(headers -> key) AS kind FROM jsonb_each_text(headers) LOOP
    IF header.kind <> 'string' OR header.key = '' THEN
      RAISE EXCEPTION 'broker.post: header % has to have a name and a text as its value', quote_literal(left(header.key, 200))
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    count := count + 1;
    pairs := pairs || broker.sized('the name of a header', header.key, 1) || broker.sized('the value of a header', header.value, 2);
    IF count > 64 OR length(pairs) - 3 * count > 16384 THEN
      RAISE EXCEPTION 'broker.post: too many headers: the first % have % bytes; a message has at most 64 of 16,384 bytes', count, length(pairs) - 3 * count
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
  END LOOP;
  -- Magic, version, no numbers, JSON; a random id; an epoch and a sequence that are 0.
  frame := '\xb5010401'::bytea || uuid_send(gen_random_uuid()) || '\x000000000000000000000000'::bytea
    || broker.sized('the type', coalesce(type, ''), 1) || int2send(count::int2) || pairs || convert_to(payload::text, 'UTF8');
  IF length(frame) > 1000000 THEN
    RAISE EXCEPTION 'broker.post: the message for % has % bytes, and at most 1,000,000 are possible', quote_literal(channel), length(frame)
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  PERFORM broker.send(channel, frame);
END $$;

-- A value as one part of the name of a channel, written as ChannelName::of does.
CREATE OR REPLACE FUNCTION broker.escaped(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  result text := '';
  letter text;
BEGIN
  IF value ~ '^[A-Za-z0-9_-]+$' THEN
    RETURN value;
  ELSIF value = '' THEN
    RETURN '%';
  ELSIF octet_length(value) > 251 THEN
    RAISE EXCEPTION 'broker.publish_changes: a value of % bytes is too long for the name of a channel', octet_length(value)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR i IN 1 .. length(value) LOOP
    letter := substr(value, i, 1);
    IF letter ~ '[.*>#%\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
      OR (i = 1 AND letter = '$')
    THEN
      result := result || regexp_replace(upper(encode(convert_to(letter, 'UTF8'), 'hex')), '(..)', '%\1', 'g');
    ELSE
      result := result || letter;
    END IF;
  END LOOP;
  RETURN result;
END $$;

-- A channel from its pattern: orders.{tenant_id}, with a column of the row in place of each name in braces.
CREATE OR REPLACE FUNCTION broker.channel_of(pattern text, columns jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  result text := '';
  rest text := pattern;
  found text[];
BEGIN
  LOOP
    found := regexp_match(rest, '^([^{]*)\{([^{}]+)\}(.*)$');
    EXIT WHEN found IS NULL;
    IF columns ->> found[2] IS NULL THEN
      RAISE EXCEPTION 'broker.publish_changes: column % is null or gone, and so % names no channel', quote_ident(found[2]), quote_literal(pattern)
        USING ERRCODE = 'null_value_not_allowed';
    END IF;
    result := result || found[1] || broker.escaped(columns ->> found[2]);
    rest := found[3];
  END LOOP;
  RETURN result || rest;
END $$;

-- The trigger of publish_changes: posts the row as JSON. The header `operation` is insert, update or delete, and `table` the
-- table. A row that moves to another channel is deleted on the first one.
CREATE OR REPLACE FUNCTION broker.publish_row() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  pattern text := TG_ARGV[0];
  type text := nullif(TG_ARGV[1], '');
  about jsonb := jsonb_build_object('table', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
  before jsonb;
  after jsonb;
  here text;
  left_channel text;
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    before := to_jsonb(OLD);
    left_channel := broker.channel_of(pattern, before);
  END IF;
  IF TG_OP IN ('INSERT', 'UPDATE') THEN
    after := to_jsonb(NEW);
    here := broker.channel_of(pattern, after);
  END IF;
  IF left_channel IS DISTINCT FROM here AND left_channel IS NOT NULL THEN
    PERFORM broker.post(left_channel, before, type, about || '{"operation": "delete"}');
  END IF;
  IF here IS NOT NULL THEN
    PERFORM broker.post(here, after, type, about
      || jsonb_build_object('operation', CASE WHEN left_channel = here THEN 'update' ELSE 'insert' END));
  END IF;
  RETURN NULL;
END $$;

-- Ends what publish_changes began.
CREATE OR REPLACE FUNCTION broker.stop_publishing_changes(changed regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = changed AND tgname = 'broker_publish_changes') THEN
    EXECUTE format('DROP TRIGGER broker_publish_changes ON %s', changed);
  END IF;
END $$;

-- From now on posts every row of a table that is inserted, updated or deleted. The pattern may name columns:
-- orders.{tenant_id}. A second call replaces the first.
CREATE OR REPLACE FUNCTION broker.publish_changes(changed regclass, pattern text, type text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  unknown text;
  -- As it is with short values.
  example text := regexp_replace(pattern, '\{[^{}]+\}', 'x', 'g');
  wrong text := CASE WHEN example ~ '[{}]' THEN 'has a brace without its counterpart' ELSE broker.broken_rule(example) END;
BEGIN
  SELECT name INTO unknown FROM (SELECT (regexp_matches(pattern, '\{([^{}]+)\}', 'g'))[1] AS name) AS named
    WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = changed AND attname = name AND attnum > 0 AND NOT attisdropped)
    LIMIT 1;
  IF changed IS NULL THEN
    RAISE EXCEPTION 'broker.publish_changes: the table is null' USING ERRCODE = 'null_value_not_allowed';
  ELSIF unknown IS NOT NULL THEN
    RAISE EXCEPTION 'broker.publish_changes: % names the column %, and table % has none of that name', quote_literal(pattern), quote_ident(unknown), changed
      USING ERRCODE = 'undefined_column';
  ELSIF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'broker.publish_changes: % names no channel: it %', coalesce(quote_literal(left(pattern, 300)), 'null'), wrong
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM broker.sized('the type', coalesce(type, ''), 1);
  PERFORM broker.stop_publishing_changes(changed);
  EXECUTE format(
    'CREATE TRIGGER broker_publish_changes AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION broker.publish_row(%L, %L)',
    changed, pattern, coalesce(type, ''));
END $$;
