-- Stand-ins for what the scripts name, made in `public`; the lists of names are psql's variables. Each raises an error, which the
-- server logs. What takes pseudo-types (`format` with its "any", for example) cannot be made in the same form; such functions
-- get stand-ins that fit a call with names or texts better than the original.
SET search_path = pg_catalog;
CREATE FUNCTION public.stand_in() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'stand-in called'; END $$;
CREATE FUNCTION public.stand_in_final(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'stand-in called'; END $$;
CREATE FUNCTION public.make(name text, VARIADIC statements text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE made bool := false;
BEGIN
  FOR i IN 1 .. pg_catalog.array_length(statements, 1) LOOP
    BEGIN
      EXECUTE statements[i];
      made := true;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  IF NOT made THEN RAISE NOTICE 'no stand-in for %', name; END IF;
END $$;
SELECT public.make(proname, format('CREATE FUNCTION public.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L', proname,
    pg_get_function_arguments(oid), CASE WHEN proretset THEN 'SETOF' ELSE '' END, format_type(prorettype, NULL),
    format('BEGIN RAISE %L; END', 'stand-in called: ' || proname)))
  FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proname = ANY (:'functions'::name[]);
SELECT public.make(proname, format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS %L', proname, arguments,
    format('BEGIN RAISE %L; END', 'stand-in called: ' || proname)))
  FROM (SELECT DISTINCT proname FROM pg_proc WHERE provariadic = '"any"'::regtype AND proname = ANY (:'functions'::name[])) f
    CROSS JOIN unnest('{text,"text, text","text, name","text, name, name","text, text, text","text, oid","text, regclass",
      "text, text, name","text, name, text","text, VARIADIC text[]","text, VARIADIC name[]"}'::text[]) arguments;
SELECT public.make(proname, format('CREATE FUNCTION public.stand_in_%s(text%s) RETURNS text LANGUAGE plpgsql AS %L', oid,
      CASE WHEN types = '' THEN '' ELSE ', ' || types END, format('BEGIN RAISE %L; END', 'stand-in called: ' || proname)),
    format('CREATE AGGREGATE public.%I(%s) (SFUNC = public.stand_in_%s, STYPE = text, INITCOND = '''', FINALFUNC = public.stand_in_final)',
      proname, CASE types WHEN '' THEN '*' ELSE types END, oid))
  FROM (SELECT *, oidvectortypes(proargtypes) AS types FROM pg_proc) p
  WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('a', 'w') AND proname = ANY (:'functions'::name[]);
SELECT public.make(oprname, format('CREATE FUNCTION public.stand_in_%s(%s) RETURNS %s LANGUAGE plpgsql AS %L', oid,
      concat_ws(', ', VARIADIC types), format_type(oprresult, NULL), format('BEGIN RAISE %L; END', 'stand-in called: ' || oprname)),
    format('CREATE OPERATOR public.%s (%s RIGHTARG = %s, FUNCTION = public.stand_in_%s)', oprname,
      'LEFTARG = ' || types[1] || ',', types[2], oid))
  FROM (SELECT *, ARRAY[CASE WHEN oprleft <> 0 THEN format_type(oprleft, NULL) END, format_type(oprright, NULL)] AS types
    FROM pg_operator) o
  WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY (:'operators'::name[]);
SELECT public.make(operator, format('CREATE FUNCTION public.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
      'stand_in ' || operator, l, r, CASE operator WHEN '||' THEN 'text' ELSE 'boolean' END,
      format('BEGIN RAISE %L; END', 'stand-in called: ' || operator)),
    format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%I)', operator, l, r, 'stand_in ' || operator))
  FROM unnest(:'operators'::text[]) operator, unnest('{name,text,varchar,regclass,regtype}'::text[]) l,
    unnest('{name,text,varchar}'::text[]) r
  WHERE operator !~ '--|/\*' AND NOT EXISTS (SELECT FROM pg_operator
    WHERE oprname = operator AND oprleft = l::regtype AND oprright = r::regtype);
SELECT public.make(relname, format('CREATE VIEW public.%I AS SELECT * FROM pg_catalog.%1$I WHERE public.stand_in()', relname))
  FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') AND relname = ANY (:'relations'::name[]);
SELECT public.make(typname, format('CREATE DOMAIN public.%I AS pg_catalog.%1$I CHECK (public.stand_in())', typname))
  FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typname = ANY (:'types'::name[]);
