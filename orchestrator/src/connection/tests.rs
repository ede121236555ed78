use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TABLE: &str = include_str!("../../tests/fixtures/airflow_connections.csv");

/// Texts that Airflow reads, and that are refused here; with the reason.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "Airflow takes a text without `://` for a path, and drops its first letter; or what is before \
         a `:` for the kind",
        &[
            "shop",
            "db.example",
            "db.example:5432/shop",
            "db.example/shop",
            "postgres:",
            "postgres:/shop",
            "postgres:db.example",
            "/run/postgresql",
            r#"["postgres"]"#,
            "null",
            r#"[{"conn_type": "http"}]"#,
        ],
    ),
    (
        "Airflow takes a text whose kind is invalid for a path, and drops its first letter",
        &[
            "1password://vault.example",
            "post gres://db.example/shop",
            r#""postgres://db.example""#,
        ],
    ),
    (
        "Airflow takes a host whose protocol is invalid for a path, and drops its first letter",
        &["http://ht_tps://example.com/v1"],
    ),
    (
        "Airflow drops what follows the `#` of a password, and connects to the login",
        &["postgres://loader:12#34@db.example/shop"],
    ),
    (
        "Airflow replaces bytes that are not UTF-8 by `\u{fffd}`, so that a password is a wrong one",
        &[
            "postgres://loader:s3%FFcret@db.example/shop",
            "postgres://loader:s3cret@db.example/%E2%82",
            "http://api.example/?a=%FF",
        ],
    ),
    (
        "no client connects to a host of a future version of IP, or to one between other texts",
        &["postgres://[v1.a]/shop", "postgres://a[::1]b:5432/shop"],
    ),
    (
        "nothing can be reached at the port 0",
        &[
            "postgres://db.example:0/shop",
            r#"{"conn_type": "http", "port": "0"}"#,
        ],
    ),
    (
        "Airflow does not look at the bounds of a port in JSON, and rounds what is not a whole number",
        &[
            r#"{"conn_type": "http", "port": 65536}"#,
            r#"{"conn_type": "http", "port": -1}"#,
            r#"{"conn_type": "http", "port": true}"#,
            r#"{"conn_type": "http", "port": 8080.5}"#,
            r#"{"conn_type": "http", "port": "8_080"}"#,
        ],
    ),
    (
        "Airflow's tasks have no options if `extra` is invalid, and fail when they look for one; its \
         server refuses it",
        &[
            "http://api.example/?__extra__=%7B%22a%22%3A",
            "http://api.example/?__extra__=plain",
            "http://api.example/?__extra__=%5B1%2C+2%5D",
            "http://api.example/?__extra__=null",
            r#"{"conn_type": "http", "extra": "plain"}"#,
            r#"{"conn_type": "http", "extra": "{\"a\":"}"#,
            r#"{"conn_type": "http", "extra": "[1]"}"#,
            r#"{"conn_type": "http", "extra": [1]}"#,
            r#"{"conn_type": "http", "extra": 5}"#,
        ],
    ),
    (
        "a login, host, path or password is a text; a number that is rounded would be a wrong one",
        &[
            r#"{"conn_type": "http", "login": true}"#,
            r#"{"conn_type": "http", "login": ["a"]}"#,
            r#"{"conn_type": "http", "host": {"a": "b"}}"#,
            r#"{"conn_type": "http", "password": 1.5}"#,
            r#"{"conn_type": "http", "password": 123456789012345678901234567890}"#,
        ],
    ),
    (
        "JSON has no `NaN`, and no halves of surrogate pairs",
        &[
            r#"{"conn_type": "http", "extra": {"a": NaN}}"#,
            r#"{"conn_type": "http", "password": "\ud800"}"#,
        ],
    ),
];

/// Texts that Airflow refuses or misreads, and what they are read as here; with the reason.
const READ_AS: &[(&str, &[(&str, &str)])] = &[
    (
        "Airflow takes a kind with `_` for a path, though it writes kinds with `_` in JSON",
        &[(
            "google_cloud_platform://?project=shop-1",
            "google-cloud-platform://?project=shop-1",
        )],
    ),
    (
        "Airflow takes each `://` for one of the host, that of a path or an option, too",
        &[
            (
                "aws://AKIA:secret@/?endpoint_url=http://minio:9000",
                "aws://AKIA:secret@/?endpoint_url=http%3A%2F%2Fminio%3A9000",
            ),
            (
                "http://api.example/?callback=ftp://files.example",
                "http://api.example/?callback=ftp%3A%2F%2Ffiles.example",
            ),
            (
                "http://api.example/proxy/https://other.example",
                "http://api.example/proxy/https%3A%2F%2Fother.example",
            ),
        ],
    ),
    (
        "Airflow does not find the protocol of the host behind a kind in upper case, behind the same \
         word, and without a kind",
        &[
            ("//https://example.com/v1", "//https%3A%2F%2Fexample.com/v1"),
            (
                "HTTP://https://example.com/v1",
                "http://https%3A%2F%2Fexample.com/v1",
            ),
            (
                "http://http://example.com/v1",
                "http://http%3A%2F%2Fexample.com/v1",
            ),
        ],
    ),
    (
        "Python looks for IPv6 addresses in logins and passwords, too",
        &[
            (
                "postgres://loader:s3[cret@db.example/shop",
                "postgres://loader:s3%5Bcret@db.example/shop",
            ),
            (
                "postgres://loader:s3[cr]et@db.example/shop",
                "postgres://loader:s3%5Bcr%5Det@db.example/shop",
            ),
        ],
    ),
    (
        "Python refuses characters that look like delimiters, since some clients would take them for \
         those; here, parts are never joined again",
        &[(
            "postgres://℀.example/shop",
            "postgres://%E2%84%80.example/shop",
        )],
    ),
    (
        "Airflow fails at a kind that is a number",
        &[(r#"{"conn_type": 5}"#, r#"{"conn_type": "5"}"#)],
    ),
];

/// The parts of a connection. An empty one is one that is not there.
#[derive(Debug, PartialEq)]
struct Parts {
    /// Kind, host, login, password and path.
    texts: [String; 5],
    port: Option<u16>,
    options: BTreeMap<String, String>,
}

impl Parts {
    fn of(connection: &Connection) -> Self {
        let options = connection.options().map(|name| {
            let value = connection.option(name).unwrap();
            (name.to_owned(), value.to_owned())
        });
        let password = connection.password().map(Secret::expose);
        let texts = [
            Some(connection.kind()),
            connection.host(),
            connection.login(),
            password,
            connection.path(),
        ];
        assert!(!texts[1..].contains(&Some("")), "a part is empty");
        Self {
            texts: texts.map(|text| text.unwrap_or_default().to_owned()),
            port: connection.port(),
            options: options.collect(),
        }
    }
}

/// A row of the table: what Airflow reads, or its error.
struct Row {
    text: String,
    parts: Option<Parts>,
    /// The options of which Airflow's server has other values.
    server: BTreeMap<String, Value>,
}

fn table() -> Vec<Row> {
    let mut rows = cells(TABLE).into_iter();
    let names = rows.next().unwrap();
    assert_eq!(
        names.join(","),
        "text,conn_type,host,login,password,port,schema,extra,error,server"
    );
    rows.map(|cells| {
        let [
            text,
            kind,
            host,
            login,
            password,
            port,
            path,
            extra,
            error,
            server,
        ] = cells.try_into().unwrap();
        let known = |text: String| if text == "None" { String::new() } else { text };
        let parts = error.is_empty().then(|| Parts {
            texts: [kind, host, login, password, path].map(known),
            port: port.parse().ok(),
            options: fields(&extra)
                .map(|(name, value)| (name, shown(&value)))
                .collect(),
        });
        let server: Value = serde_json::from_str(&server).unwrap_or_default();
        let server = fields(&server["extra"].to_string()).collect();
        Row {
            text,
            parts,
            server,
        }
    })
    .collect()
}

/// Returns the fields of an object, except those that are `null`; none if it is something else.
fn fields(json: &str) -> impl Iterator<Item = (String, Value)> {
    let fields: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    fields.into_iter().filter(|(_, value)| !value.is_null())
}

fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the rows of a table in CSV.
fn cells(table: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut is_quoted = false;
    let mut characters = table.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                cell.push('"');
                characters.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !is_quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            _ => cell.push(c),
        }
    }
    rows
}

/// Returns the parts of a connection, if it is one.
fn parse(text: &str) -> Option<Parts> {
    Connection::parse("shop", text)
        .ok()
        .map(|connection| Parts::of(&connection))
}

/// Returns the parts with JSON in options as `serde_json` writes it.
fn normalized(mut parts: Parts) -> Parts {
    for value in parts.options.values_mut() {
        if let Ok(json) = serde_json::from_str::<Value>(value) {
            *value = shown(&json);
        }
    }
    parts
}

#[test]
fn texts_are_read_as_airflow_reads_them() {
    let table = table();
    assert_eq!(table.len(), 222);
    let refused = REFUSED.iter().flat_map(|(_, texts)| *texts);
    let mut refused: Vec<&str> = refused.copied().collect();
    let read_as = READ_AS.iter().flat_map(|(_, texts)| *texts);
    let mut read_as: BTreeMap<&str, &str> = read_as.copied().collect();
    for row in table {
        let text = row.text.as_str();
        let parts = parse(text).map(normalized);
        let airflow = row.parts.map(normalized);
        if let Some(at) = refused.iter().position(|refused| *refused == text) {
            refused.swap_remove(at);
            assert!(airflow.is_some(), "Airflow refuses it, too: {text}");
            assert_eq!(parts, None, "{text}");
        } else if let Some(other) = read_as.remove(text) {
            assert_ne!(parts, airflow, "Airflow reads it so, too: {text}");
            assert!(parts.is_some(), "{text}");
            assert_eq!(parts, parse(other).map(normalized), "{text}");
        } else {
            assert_eq!(parts, airflow, "{text}");
        }
    }
    assert!(
        refused.is_empty() && read_as.is_empty(),
        "not in the table: {refused:?} {read_as:?}"
    );
}

/// Airflow's server reads a value of the query as JSON if it is JSON, its tasks do not. Here it is
/// the text, which both can be made of.
#[test]
fn options_are_texts_that_airflows_server_reads_as_json() {
    let mut compared = 0;
    for row in table() {
        let parts = parse(&row.text);
        for (name, value) in row.server {
            let text = &parts.as_ref().unwrap().options[&name];
            let json: Value = serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
            assert_eq!(json, value, "{}: {name}", row.text);
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn options_that_are_no_texts_are_kept_as_they_are_written() {
    let text =
        r#"{"extra": {"big": 123456789012345678901234567890, "list": [1,  2.50], "no": null}}"#;
    let connection = Connection::parse("shop", text).unwrap();
    assert_eq!(
        connection.option("big"),
        Some("123456789012345678901234567890")
    );
    assert_eq!(connection.option("list"), Some("[1,  2.50]"));
    assert_eq!(connection.options().collect::<Vec<_>>(), ["big", "list"]);
}

#[test]
fn errors_tell_what_to_do() {
    let cases = [
        ("", "got an empty text"),
        ("  ", "got an empty text"),
        (
            "db.example:5432/shop",
            "expected a URI such as `postgres://login:password@host:5432/database`, or a JSON \
             object, got neither",
        ),
        (
            "1p://vault.example",
            "expected the kind before `://` to begin with a letter",
        ),
        (
            "postgres://loader:p/w@db.example",
            "a number from 1 to 65535: if the `:` belongs to a login or password, write `/` as `%2F`",
        ),
        (
            "postgres://loader:12#34@db.example",
            "in a login or password, write `#` as `%23`",
        ),
        (
            "postgres://loader:p://w@db.example",
            "expected a host after the login, got another `://`",
        ),
        (
            "postgres://::1:5432/shop",
            "write an IPv6 address in brackets, as `[::1]`",
        ),
        (
            "postgres://[::1/shop",
            "expected an IPv6 address between `[` and `]`",
        ),
        (
            "postgres://[::1]5432/shop",
            "expected an IPv6 address between `[` and `]`",
        ),
        (
            "postgres://loader:%FF@db.example",
            "expected the password to be UTF-8",
        ),
        (
            "http://api.example/?__extra__=5",
            "expected `__extra__` to be a JSON object such as {\"timeout\": 10}",
        ),
        (r#"{"extra": "5"}"#, "expected `extra` to be a JSON object"),
        (
            r#"{"port": 65536}"#,
            "expected `port` to be a number from 1 to 65535",
        ),
        (
            r#"{"login": {}, "host": true}"#,
            "expected `host` to be a text: write it in quotes",
        ),
        (
            r#"{"pasword": "a"}"#,
            "got another one; did you mean `password`?",
        ),
        (
            r#"{"sslmode": "require"}"#,
            "got another one: options of the service belong into `extra`",
        ),
        (
            r#"{"uri": "http://a", "host": "b"}"#,
            "expected either `uri` or other fields, got both",
        ),
        (
            "{\"host\": \"a\",\n\"port\": }",
            "got invalid JSON: look at line 2, column 9",
        ),
        (
            "{'host': 'a'}",
            "got invalid JSON: look at line 1, column 2",
        ),
    ];
    for (text, part) in cases {
        let error = Connection::parse("shop", text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn debug_hides_secrets() {
    let text = "postgres://loader:s3cret@db.example:5432/shop?sslmode=require&API_KEY=s3cret&\
        client_secret=s3cret&auth-token=s3cret&password2=s3cret&sslPassphrase=s3cret&\
        credentials=s3cret&aws_access_key_id=AKIA&secret_id=42";
    let shown = format!("{:?}", Connection::parse("shop", text).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
    for part in [
        "shop",
        "postgres",
        "loader",
        "db.example",
        "5432",
        "require",
        "AKIA",
        "42",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn urls_of_slack_and_heartbeats_are_secrets() {
    for text in [
        "slack://hooks.example/services/s3cret?channel=s3cret",
        "slack://https://hooks.example/services/s3cret",
        "slack://https%3A%2F%2Fhooks.example%2Fservices%2Fs3cret",
        "heartbeat://https://ping.example/s3cret?rid=s3cret",
        r#"{"conn_type": "slack", "host": "https://hooks.example/services/s3cret"}"#,
        r#"{"conn_type": "slack", "extra": {"webhook": {"url": "https://hooks.example/s3cret"}}}"#,
    ] {
        let connection = Connection::parse("alerts", text).unwrap();
        let shown = format!("{connection:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(connection.secrets().any(|secret| secret.contains("s3cret")));
        assert!(!connection.plain_texts().any(|text| text.contains("s3cret")));
    }
    let connection = Connection::parse("alerts", "slack://https://hooks.example").unwrap();
    assert!(format!("{connection:?}").contains("hooks.example"));
}

#[test]
fn host_with_a_password_is_a_secret() {
    let text = r#"{"conn_type": "http", "host": "https://loader:s3cret@api.example"}"#;
    let connection = Connection::parse("api", text).unwrap();
    assert!(!format!("{connection:?}").contains("s3cret"));
    assert!(connection.secrets().any(|secret| secret.contains("s3cret")));
}

#[test]
fn switches_are_not_masked() {
    let text = r#"{"conn_type": "ssh", "extra": {"no_host_key_check": true, "key_file": "/k/id"}}"#;
    let connection = Connection::parse("ssh", text).unwrap();
    assert_eq!(connection.secrets().collect::<Vec<_>>(), ["/k/id"]);
}

/// A password that is in no text of the table, in the forms in which it may be in a text.
const PASSWORD: &str = "Zq7/Wx9:Kv";
const ENCODED: [&str; 2] = ["Zq7%2FWx9%3AKv", "Zq7%2fWx9%3aKv"];

/// Returns texts with a password in them.
fn texts() -> impl Strategy<Value = String> {
    let bases = table().into_iter().map(|row| row.text);
    let bases = bases.flat_map(|text| {
        let is_json = text.trim_start().starts_with('{');
        let forms = if is_json { [PASSWORD; 2] } else { ENCODED };
        forms.map(|form| text.replace("s3cret", form))
    });
    proptest::sample::select(bases.collect::<Vec<_>>())
}

/// Returns `true` if a text has a piece of the password. No other text has those.
fn tells(text: &str) -> bool {
    ["Zq7", "Wx9"].iter().any(|piece| text.contains(piece))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*", bytes in any::<Vec<u8>>()) {
        let _ = Connection::parse("shop", &text);
        let _ = Connection::parse("shop", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_texts_do_not_tell_their_password(
        text in texts(),
        damages in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0..3, proptest::sample::select(
                ":/?#[]@%&=+{}\",\\0a é\n".chars().collect::<Vec<_>>())),
            0..4,
        ),
    ) {
        let mut text: Vec<char> = text.chars().collect();
        for (at, damage, character) in damages {
            let at = at.index(text.len() + 1);
            match damage {
                0 => text.insert(at, character),
                1 if at < text.len() => text[at] = character,
                _ if at < text.len() => drop(text.remove(at)),
                _ => text.truncate(at / 2),
            }
        }
        let text: String = text.into_iter().collect();
        match Connection::parse("shop", &text) {
            Err(error) => prop_assert!(!tells(&error.to_string()), "{text}: {error}"),
            // damaged, it may be another part: a login, for want of a `:` before it
            Ok(connection) if connection.password().is_some_and(|p| p.expose() == PASSWORD) => {
                let shown = format!("{connection:?}");
                prop_assert!(!tells(&shown), "{text}: {shown}");
            }
            Ok(_) => {}
        }
    }
}
