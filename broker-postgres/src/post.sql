-- Posting from SQL: what is posted in a transaction is delivered exactly if that commits, and in the order of the commits.
-- Behind the log, in the same transaction. Both may be run again at any time, by the owner of the schema.
--
-- Every function runs with the rights of its caller: a row may have columns whose types bring functions of their own, which
-- are called where it becomes JSON. Of temporary objects, which come first where a path does not name them, none is meant.
--
-- A post has to be cheap, and each query, each expression and each SET costs time in every transaction anew. So it passes through
-- few functions, and calls those whose result is not needed by an assignment, since PERFORM is a query.

-- A trigger runs as whoever writes to its table, so everybody may call the functions; they do nothing that NOTIFY does not.
GRANT USAGE ON SCHEMA broker TO PUBLIC;

-- Notifies the nodes of a frame, in pieces of at most 7,999 bytes.
CREATE OR REPLACE FUNCTION broker.send(channel text, frame bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  room CONSTANT int := 5979;
  name bytea := convert_to(channel, 'UTF8');
  content bytea := set_byte('\x00'::bytea, 0, length(name)) || name || frame;
  last int := (length(content) - 1) / room;
  -- Keeps equal pieces of a transaction apart, of which the server would deliver one.
  counter int8 := coalesce(nullif(current_setting('broker.counter', true), '')::int8, floor(random() * 4294967296)::int8);
  hash int8 := x'cbf29ce484222325'::int8;
  low int8;
  ignored text;
BEGIN
  -- FNV-1a in 64 bits: times 2^40 + 435, in two halves, since a product of int8 must not overflow.
  FOR i IN 0 .. length(name) - 1 LOOP
    low := (hash & 4294967295) # get_byte(name, i);
    hash := (((hash >> 32) * 435 + (low * 435 >> 32) + (low << 8)) << 32) | (low * 435 & 4294967295);
  END LOOP;
  FOR i IN 0 .. last LOOP
    -- With replace, since translate and rtrim take twenty times as long for a whole piece.
    ignored := pg_notify(
      'broker_' || (hash & 63),
      CASE WHEN last = 0 THEN 'w' WHEN i = 0 THEN 'b' WHEN i = last THEN 'e' ELSE 'm' END
        || lpad(to_hex(hash), 16, '0') || '.' || lpad(to_hex((counter + i) & 4294967295), 8, '0') || '.'
        || replace(replace(encode(substr(content, i * room + 1, room), 'base64'), E'\n', ''), '=', ''));
  END LOOP;
  ignored := set_config('broker.counter', ((counter + last + 1) & 4294967295)::text, true);
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

-- Refuses what has more bytes than its length in a frame can say.
CREATE OR REPLACE FUNCTION broker.refuse_length(what text, bytes int, most int) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
BEGIN
  RAISE EXCEPTION 'broker.post: % has % bytes, and at most % are possible', what, bytes, most
    USING ERRCODE = 'invalid_parameter_value';
END $$;

-- Headers as they stand in a frame: their number in two bytes; each name after its length in one, each value in two.
CREATE OR REPLACE FUNCTION broker.headers_of(headers jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  count int := 0;
  pairs bytea := '';
  header record;
BEGIN
  IF jsonb_typeof(headers) <> 'object' THEN
    RAISE EXCEPTION 'broker.post: the headers have to be an object of texts, {"name": "value"}'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR header IN
    SELECT key, jsonb_typeof(headers -> key) AS kind, convert_to(key, 'UTF8') AS name, convert_to(value, 'UTF8') AS value
    FROM jsonb_each_text(headers)
  LOOP
    IF header.kind <> 'string' OR header.key = '' THEN
      RAISE EXCEPTION 'broker.post: header % has to have a name and a text as its value', quote_literal(left(header.key, 200))
        USING ERRCODE = 'invalid_parameter_value';
    ELSIF length(header.name) > 255 THEN
      PERFORM broker.refuse_length('the name of a header', length(header.name), 255);
    ELSIF length(header.value) > 65535 THEN
      PERFORM broker.refuse_length('the value of a header', length(header.value), 65535);
    END IF;
    count := count + 1;
    pairs := pairs || set_byte('\x00'::bytea, 0, length(header.name)) || header.name
      || substr(int4send(length(header.value)), 3) || header.value;
    IF count > 64 OR length(pairs) - 3 * count > 16384 THEN
      RAISE EXCEPTION 'broker.post: too many headers: the first % have % bytes; a message has at most 64 of 16,384 bytes', count, length(pairs) - 3 * count
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
  END LOOP;
  RETURN int2send(count::int2) || pairs;
END $$;

-- Posts JSON to a channel, named as on the wire: with a prefix in front of it where the nodes have one. Delivered to every
-- subscriber if the transaction commits, and by none if it does not.
CREATE OR REPLACE FUNCTION broker.post(channel text, payload jsonb, type text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  -- The rules of broken_rule in one expression; that says which one is broken, but is a query.
  good bool := octet_length(convert_to(channel, 'UTF8')) <= 251
    AND channel COLLATE "C" !~ '[*>#\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]|(^|\.)(\.|\$|$)';
  type_bytes bytea := convert_to(coalesce(type, ''), 'UTF8');
  pairs bytea;
  frame bytea;
  ignored text;
BEGIN
  IF good IS NOT TRUE THEN
    RAISE EXCEPTION 'broker.post: channel % %', coalesce(quote_literal(left(channel, 300)), ''), broker.broken_rule(channel)
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF payload IS NULL THEN
    RAISE EXCEPTION 'broker.post: the payload is null; for the JSON value post ''null''::jsonb'
      USING ERRCODE = 'null_value_not_allowed';
  END IF;
  pairs := CASE WHEN headers IS NULL THEN '\x0000'::bytea ELSE broker.headers_of(headers) END;
  IF length(type_bytes) > 255 THEN
    PERFORM broker.refuse_length('the type', length(type_bytes), 255);
  END IF;
  -- Magic, version, no numbers, JSON; a random id; an epoch and a sequence that are 0.
  frame := '\xb5010401'::bytea || uuid_send(gen_random_uuid()) || '\x000000000000000000000000'::bytea
    || set_byte('\x00'::bytea, 0, length(type_bytes)) || type_bytes || pairs || convert_to(payload::text, 'UTF8');
  IF length(frame) > 1000000 THEN
    RAISE EXCEPTION 'broker.post: the message for % has % bytes, and at most 1,000,000 are possible', quote_literal(channel), length(frame)
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  ignored := broker.send(channel, frame);
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

-- A channel from its pattern: orders.{tenant_id}, with a column of the row in place of each name in braces. Where a column is null
-- there is no channel: an error, or null if none is required.
CREATE OR REPLACE FUNCTION broker.channel_of(pattern text, columns jsonb, required bool) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
  result text := '';
  rest text := pattern;
  inside text;
  closing int;
  value text;
BEGIN
  LOOP
    inside := split_part(rest, '{', 2);
    closing := strpos(inside, '}');
    EXIT WHEN (closing > 1) IS NOT TRUE;
    value := columns ->> left(inside, closing - 1);
    IF value IS NULL AND NOT required AND columns ? left(inside, closing - 1) THEN
      RETURN NULL;
    ELSIF value IS NULL THEN
      RAISE EXCEPTION 'broker.publish_changes: column % is null or gone, and so % names no channel',
        quote_ident(left(inside, closing - 1)), quote_literal(pattern)
        USING ERRCODE = 'null_value_not_allowed';
    END IF;
    result := result || split_part(rest, '{', 1) || broker.escaped(value);
    rest := substr(rest, strpos(rest, '{') + closing + 1);
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
  origin text := TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
  before jsonb;
  after jsonb;
  here text;
  left_channel text;
  ignored text;
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    before := to_jsonb(OLD);
    -- None for a row that is older than publish_changes: its insert was not posted.
    left_channel := broker.channel_of(pattern, before, false);
  END IF;
  IF TG_OP IN ('INSERT', 'UPDATE') THEN
    after := to_jsonb(NEW);
    here := broker.channel_of(pattern, after, true);
  END IF;
  IF left_channel IS DISTINCT FROM here AND left_channel IS NOT NULL THEN
    ignored := broker.post(left_channel, before, type, jsonb_build_object('table', origin, 'operation', 'delete'));
  END IF;
  IF here IS NOT NULL THEN
    ignored := broker.post(here, after, type,
      jsonb_build_object('table', origin, 'operation', CASE WHEN left_channel = here THEN 'update' ELSE 'insert' END));
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
  IF octet_length(convert_to(type, 'UTF8')) > 255 THEN
    PERFORM broker.refuse_length('the type', octet_length(convert_to(type, 'UTF8')), 255);
  END IF;
  PERFORM broker.stop_publishing_changes(changed);
  EXECUTE format(
    'CREATE TRIGGER broker_publish_changes AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION broker.publish_row(%L, %L)',
    changed, pattern, coalesce(type, ''));
END $$;
