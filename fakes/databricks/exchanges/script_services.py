"""The script's part on everything but files: OAuth, Unity Catalog, SQL statements, Lakebase, limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockproof.fakes.databricks.exchanges.player import Step
from lockproof.fakes.databricks.exchanges.script_files import ERRORS, Options, ask

API = "docs.databricks.com/api/workspace"
XO = "github.com/xo/dbimp testdata/databricks"
OAUTH = "databricks-sdk oauth.py; RFC 6749"
STATEMENTS = "${host}/api/2.0/sql/statements"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SLOW = "SELECT sum(a.id * b.id) FROM range(10000000) a CROSS JOIN range(1000000) b"


def identity() -> Iterator[Step]:
    """Discovery, tokens for machines, and who calls."""
    sdk: Options = {"basis": "sdk", "source": "databricks-sdk config.py"}
    config = "${host}/.well-known/databricks-config"
    yield ask(
        "host metadata", "GET", config, 200, who="nobody", only=("oidc_endpoint", "workspace_id"), **sdk
    )
    oidc = "${host}/oidc/.well-known/oauth-authorization-server"
    yield ask("OAuth metadata", "GET", oidc, 200, who="nobody", only=("token_endpoint",), **sdk)
    me = "${host}/api/2.0/preview/scim/v2/Me"
    who: Options = {
        "only": ("userName", "active", "schemas"),
        "source": "databricks-sdk current_user.me; RFC 7643",
    }
    yield ask("who am I", "GET", me, 200, basis="sdk", **who)
    yield ask("who am I, without credentials", "GET", me, 401, who="nobody", basis="recorded", source=ERRORS)
    token = "${host}/oidc/v1/token"
    grant: Options = {"headers": FORM, "source": f"{OAUTH} 4.4 and 5.2"}
    machine = "grant_type=client_credentials&scope="
    yield ask(
        "a token for a machine",
        "POST",
        token,
        200,
        who="client",
        body=f"{machine}all-apis",
        takes={"token-machine": "access_token"},
        basis="sdk",
        **grant,
    )
    yield ask("who am I, by that token", "GET", me, 200, **_by("token-machine"), basis="sdk", **who)
    yield ask(
        "a token for one scope",
        "POST",
        token,
        200,
        who="client",
        body=f"{machine}files",
        takes={"token-files": "access_token"},
        basis="sdk",
        **grant,
    )
    yield ask(
        "a token without the scope that is needed",
        "GET",
        f"{STATEMENTS}/01f00000-0000-0000-0000-000000000000",
        403,
        403,
        **_by("token-files"),
        basis="recorded",
        source=ERRORS,
    )
    wrong = {**FORM, "Authorization": "Basic bG9ja3Byb29mOm5vLXN1Y2gtc2VjcmV0"}
    yield ask(
        "a wrong client",
        "POST",
        token,
        401,
        "invalid_client",
        who="nobody",
        headers=wrong,
        body=f"{machine}all-apis",
        basis="standard",
        source="RFC 6749 section 5.2",
    )
    yield ask(
        "a grant type that machines do not have",
        "POST",
        token,
        400,
        "unsupported_grant_type",
        who="client",
        body="grant_type=lockproof",
        headers=FORM,
        basis="standard",
        source="RFC 6749 section 5.2",
    )


def unity_catalog() -> Iterator[Step]:
    """Volumes as objects."""
    volumes = "${host}/api/2.1/unity-catalog/volumes"
    source: Options = {"source": f"{API}/volumes/read"}
    only = ("catalog_name", "schema_name", "name", "full_name", "volume_id", "volume_type", "metastore_id")
    yield ask("a volume", "GET", f"{volumes}/${{volume}}", 200, only=only, **source)
    oss: Options = {
        "basis": "documented",
        "source": f"{API}/volumes/read; github.com/unitycatalog ErrorCode.java",
    }
    missing = "${catalog-name}.${schema-name}.lockproof_no_such_volume"
    yield ask("a missing volume", "GET", f"{volumes}/{missing}", 404, "VOLUME_DOES_NOT_EXIST", **oss)
    missing = "${catalog-name}.lockproof_no_such_schema.v"
    yield ask(
        "a volume of a missing schema", "GET", f"{volumes}/{missing}", 404, "SCHEMA_DOES_NOT_EXIST", **oss
    )
    missing = "lockproof_no_such_catalog.s.v"
    yield ask(
        "a volume of a missing catalog", "GET", f"{volumes}/{missing}", 404, "CATALOG_DOES_NOT_EXIST", **oss
    )
    yield ask(
        "a volume without grants",
        "GET",
        f"{volumes}/${{volume}}",
        403,
        "PERMISSION_DENIED",
        who="stranger",
        **oss,
    )
    one = {"catalog_name": "${catalog-name}"}
    yield ask("volumes of no schema", "GET", volumes, 400, query=one, source=f"{API}/volumes/list")


def statements() -> Iterator[Step]:
    """Execution, its options, polling, cancelling, and what is refused."""
    real: Options = {"basis": "recorded", "source": f"{API}/statementexecution/executestatement; {XO}"}
    yield run("a row", "SELECT 1 AS one, 'x' AS text, true AS yes, CAST(NULL AS STRING) AS nothing", **real)
    bound = [{"name": "n", "value": "41", "type": "INT"}, {"name": "t", "value": "it's"}, {"name": "none"}]
    yield run("parameters", "SELECT :n + 1 AS n, :t AS t, :none AS none", parameters=bound, **real)
    yield run("no rows", "SELECT 1 AS one WHERE false", basis="inferred", source=f"{API}/statementexecution")
    yield run("a statement that cannot be parsed", "SELEC 1", **real)
    yield run("a table that is not there", "SELECT * FROM ${schema}.lockproof_no_such_table", **real)
    yield run("a parameter without a value", "SELECT :missing AS missing", **real)
    yield run("a limit of rows", "SELECT * FROM VALUES (1), (2), (3) AS t(n) ORDER BY n", row_limit=2, **real)
    one = "SELECT 1 AS one"
    yield ask("no warehouse", "POST", STATEMENTS, 400, "BAD_REQUEST", json={"statement": one}, **real)
    yield run("a malformed warehouse", one, 400, "BAD_REQUEST", warehouse_id="nosuch", **real)
    unknown = "0000000000000000"
    yield run("an unknown warehouse", one, 403, "PERMISSION_DENIED", warehouse_id=unknown, **real)
    yield run("a wait that is too short", one, 400, "INVALID_PARAMETER_VALUE", wait_timeout="3s", **real)
    csv: Options = {"format": "CSV", "disposition": "INLINE"}
    yield run("CSV is not inline", one, 400, "INVALID_PARAMETER_VALUE", **csv, **real)
    yield ask("a body that is no JSON", "POST", STATEMENTS, 400, "MALFORMED_REQUEST", body="{", **real)
    poll: Options = {"basis": "recorded", "source": f"{API}/statementexecution/getstatement; {XO}"}
    later = f"{STATEMENTS}/${{id-slow}}"
    yield run(
        "a statement that nobody waits for",
        SLOW,
        wait_timeout="0s",
        slow=True,
        takes={"id-slow": "statement_id"},
        **real,
    )
    yield ask("a poll before the end", "GET", later, 200, **poll)
    cancel: Options = {"basis": "recorded", "source": f"{API}/statementexecution/cancelexecution; {XO}"}
    yield ask("a cancel", "POST", f"{later}/cancel", 200, **cancel)
    yield ask("a cancelled statement", "GET", later, 200, until_ended=True, **poll)
    nobody = f"{STATEMENTS}/01f00000-0000-1000-8000-000000000000"
    yield ask("a poll of an unknown statement", "GET", nobody, 404, "NOT_FOUND", **poll)
    yield ask("a cancel of an unknown statement", "POST", f"{nobody}/cancel", 200, **cancel)
    yield ask("a statement without credentials", "POST", STATEMENTS, 401, who="nobody", json={}, **real)
    yield ask(
        "another's statement", "GET", later, 404, "NOT_FOUND", who="stranger", basis="inferred", source=API
    )


def results() -> Iterator[Step]:
    """Chunks, and results behind links."""
    real: Options = {
        "basis": "recorded",
        "source": f"{API}/statementexecution/getstatementresultchunkn; {XO}",
    }
    yield run("a result to fetch", "SELECT 7 AS seven", takes={"id-result": "statement_id"}, **real)
    chunks = f"{STATEMENTS}/${{id-result}}/result/chunks"
    yield ask("a chunk", "GET", f"{chunks}/0", 200, **real)
    yield ask("a chunk out of range", "GET", f"{chunks}/9", 400, **real)
    documented: Options = {"source": f"{API}/statementexecution/executestatement"}
    rows = "SELECT * FROM VALUES (1, 'a'), (2, NULL) AS t(n, s) ORDER BY n"
    yield run(
        "a result behind a link",
        rows,
        disposition="EXTERNAL_LINKS",
        takes={"url-json": "result.external_links.0.external_link"},
        **documented,
    )
    yield ask("the rows behind the link", "GET", "${url-json}", 200, who="nobody", **documented)
    yield run(
        "CSV behind a link",
        rows,
        disposition="EXTERNAL_LINKS",
        format="CSV",
        takes={"url-csv": "result.external_links.0.external_link"},
        **documented,
    )
    yield ask("the CSV behind the link", "GET", "${url-csv}", 200, who="nobody", **documented)


def tables() -> Iterator[Step]:
    """What changes tell: the counts that a lock rests on, and errors. Only where a table may be made."""
    real: Options = {"basis": "recorded", "source": f"{API}/statementexecution/executestatement; {XO}"}
    t = "${table}"
    yield run("a table", f"CREATE TABLE {t} (k STRING, holder STRING) USING DELTA", **real)
    yield run("a table that exists", f"CREATE TABLE {t} (k STRING, holder STRING) USING DELTA", **real)
    yield run("rows are inserted", f"INSERT INTO {t} VALUES ('a', NULL), ('b', 'x')", **real)
    taken = [{"name": "id", "value": "one"}]
    update = f"UPDATE {t} SET holder = :id WHERE k = 'a' AND holder IS NULL"
    yield run("a conditional update that applies", update, parameters=taken, **real)
    yield run("a conditional update that does not", update, parameters=taken, **real)
    merge = (
        f"MERGE INTO {t} t USING (SELECT 'c' AS k) s ON t.k = s.k WHEN NOT MATCHED THEN INSERT (k, holder) "
        "VALUES (s.k, NULL)"
    )
    yield run("a merge that inserts", merge, **real)
    yield run("a merge that finds", merge, **real)
    yield run("a deletion", f"DELETE FROM {t} WHERE k = 'b'", **real)
    yield run("what is there in the end", f"SELECT k, holder FROM {t} ORDER BY k", **real)
    yield run("a read without grants", f"SELECT k FROM {t}", who="stranger", basis="documented", source=XO)
    yield run("the table is dropped", f"DROP TABLE {t}", **real)


def lakebase() -> Iterator[Step]:
    """Endpoints and login tokens."""
    sdk: Options = {"basis": "sdk", "source": "databricks-sdk service/postgres.py"}
    postgres = "${host}/api/2.0/postgres"
    credentials = f"{postgres}/credentials"
    yield ask("an endpoint", "GET", f"{postgres}/${{endpoint}}", 200, only=("name", "uid"), **sdk)
    yield ask("a login token", "POST", credentials, 200, json={"endpoint": "${endpoint}"}, **sdk)
    short = {"endpoint": "${endpoint}", "ttl": "300s"}
    yield ask("a login token of five minutes", "POST", credentials, 200, json=short, **sdk)
    long = {"endpoint": "${endpoint}", "ttl": "86400s"}
    yield ask("a login token of a day", "POST", credentials, 400, "INVALID_PARAMETER_VALUE", json=long, **sdk)
    yield ask(
        "a login token for nothing", "POST", credentials, 400, "INVALID_PARAMETER_VALUE", json={}, **sdk
    )
    none = "projects/lockproof-no-such-project/branches/production/endpoints/primary"
    yield ask(
        "a login token for an unknown endpoint",
        "POST",
        credentials,
        404,
        "NOT_FOUND",
        json={"endpoint": none},
        **sdk,
    )
    yield ask(
        "an unknown project", "GET", f"{postgres}/projects/lockproof-no-such-project", 404, "NOT_FOUND", **sdk
    )
    yield ask("a login token without credentials", "POST", credentials, 401, who="nobody", json={}, **sdk)


def limits() -> Iterator[Step]:
    """What a throttled or an overloaded workspace answers."""
    url = "${host}/api/2.0/fs/files${root}/limits/f"
    limited: Options = {"basis": "recorded", "source": "databricks-sdk retries.py; databricks/cli"}
    yield ask("a request over the limit", "GET", url, 429, "REQUEST_LIMIT_EXCEEDED", fault=429, **limited)
    source = "github.com/databricks/terraform-provider-databricks #2119"
    yield ask(
        "an overloaded workspace",
        "GET",
        url,
        503,
        "TEMPORARILY_UNAVAILABLE",
        fault=503,
        basis="recorded",
        source=source,
    )
    yield ask("the request after them", "GET", url, 404, "NOT_FOUND", basis="recorded", source=ERRORS)


def run(name: str, text: str, status: int = 200, code: str | None = None, **options: Any) -> Step:
    """A statement: what is no option of a step belongs into the request's body."""
    known = ("who", "slow", "takes", "basis", "source")
    request = {key: options.pop(key) for key in known if key in options}
    body = {"warehouse_id": "${warehouse}", "statement": text, "wait_timeout": "30s", **options}
    return ask(name, "POST", STATEMENTS, status, code, json=body, **request)


def _by(token: str) -> dict[str, Any]:
    return {"who": "nobody", "headers": {"Authorization": f"Bearer ${{{token}}}"}}
