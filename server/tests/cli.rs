//! The command line: what a person or a script does with it.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{SEALWIRE, Server};

fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("written");
    output
}

fn ok(output: &Output) -> &[u8] {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    &output.stdout
}

/// A chat log: Chinese, emoji, empty lines, quotes, a line without an end.
fn chat() -> Vec<u8> {
    let mut lines = String::new();
    for number in 0..2000 {
        let text = ["你好 👋", "", "ok", "\"quoted\\n\"", "long ".repeat(200).as_str()][number % 5]
            .to_owned();
        lines.push_str(&format!("{{\"seq\":{number},\"text\":\"{text}\"}}\n"));
        if number % 50 == 0 {
            lines.push('\n');
        }
    }
    lines.push_str("the last line has no end");
    lines.into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_log_goes_there_and_back_through_every_suite() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,reenc:*", "reenc:*>*"]).await;
    server.key("聊天").await;
    server.key("archive").await;
    let chat = chat();
    for suite in sealwire_protocol::Suite::ALL {
        let args = ["enc", "--key", "聊天", "--lines", "--suite", suite.name(), "--aad", "log"];
        let sealed = run(server.command(&app, &args), &chat);
        let sealed = ok(&sealed);
        assert_eq!(sealed.iter().filter(|byte| **byte == b'\n').count(), 2040);
        let moved = run(
            server.command(&app, &["reenc", "--lines", "--to", "archive", "--aad", "log"]),
            sealed,
        );
        let opened = run(server.command(&app, &["dec", "--lines", "--aad", "log"]), ok(&moved));
        assert!(ok(&opened) == chat, "{suite}");
    }
    let sealed = run(server.command(&app, &["enc", "--key", "聊天", "--aad", "a"]), &chat);
    let refused = run(server.command(&app, &["dec", "--aad", "b"]), ok(&sealed));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("OPEN_FAILED (49)"));
    let opened = run(server.command(&app, &["dec", "--aad", "a"]), ok(&sealed));
    assert!(ok(&opened) == chat);
    let line = run(server.command(&app, &["dec", "--lines"]), b"!!!\n");
    assert!(String::from_utf8_lossy(&line.stderr).contains("line 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_apps_are_made_and_listed() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:none"]).await;
    let cli = |args: &[&str]| run(server.command(&app, args), b"");
    let json = |args: &[&str]| -> Value { serde_json::from_slice(ok(&cli(args))).expect("JSON") };

    let made = json(&["key", "create", "chat", "--json"]);
    assert_eq!(
        (&made["name"], &made["index"], &made["created"]),
        (&"chat".into(), &1.into(), &true.into())
    );
    assert_eq!(json(&["key", "create", "chat", "--json"])["created"], false);
    json(&["key", "create", "archive", "--index", "100", "--suite", "sm4-gcm", "--json"]);
    let conflict = cli(&["key", "create", "third", "--index", "100"]);
    assert_eq!(conflict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&conflict.stderr).contains("KEY_CONFLICT 35"));
    json(&["key", "rotate", "chat", "--json"]);
    let list = json(&["key", "list", "--json"]);
    let list = list.as_array().expect("an array");
    assert_eq!(list.len(), 2);
    assert_eq!((&list[1]["name"], &list[1]["index"]), (&"chat".into(), &1.into()));
    let shown = json(&["key", "show", "1", "--json"]);
    assert_eq!(shown["versions"].as_array().expect("versions").len(), 2);
    assert!(shown["versions"][1]["wrapped"].as_str().expect("wrapped").len() > 100);
    assert_eq!(cli(&["key", "show", "nobody"]).status.code(), Some(1));

    let made = json(&[
        "app",
        "create",
        "bot",
        "--allow",
        "10.1.2.3/8",
        "::1",
        "--grant",
        "enc,dec:im-*",
        "reenc:a>b",
        "--json",
    ]);
    assert!(made["app_secret"].as_str().expect("a secret").starts_with("sws1_"));
    let apps = json(&["app", "list", "--json"]);
    let bot =
        apps.as_array().expect("an array").iter().find(|app| app["name"] == "bot").expect("there");
    assert_eq!(bot["allow"], serde_json::json!(["10.0.0.0/8", "::1/128"]));
    assert_eq!(bot["grants"], serde_json::json!(["enc,dec:im-*", "reenc:a>b"]));
    assert!(bot.get("app_secret").is_none());

    // A secret for HTTP: none unless it is asked for, another one later, and none again.
    assert!(made.get("http_secret").is_none_or(Value::is_null) && bot["http"] == false);
    let create = ["app", "create", "web", "--allow", "::1", "--grant", "enc:im-*", "--http"];
    let web = json(&[&create[..], &["--json"]].concat());
    let first = web["http_secret"].as_str().expect("a secret").to_owned();
    assert!(first.starts_with("swh1_"));
    let second = json(&["app", "rotate-secret", "web", "--http", "--json"]);
    assert!(second["http_secret"].as_str().expect("a secret").starts_with("swh1_"));
    assert!(second["http_secret"] != first.as_str() && second["app_secret"].is_null());
    assert_eq!(json(&["app", "show", "web", "--json"])["http"], true);
    json(&["app", "set", "web", "--no-http", "--json"]);
    assert_eq!(json(&["app", "show", "web", "--json"])["http"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_a_running_server() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,reenc:*"]).await;
    server.key("chat").await;
    for op in ["enc", "dec", "reenc"] {
        let args =
            ["bench", "--op", op, "--connections", "2", "--depth", "8", "--seconds", "1", "--json"];
        let report = run(server.command(&app, &args), b"");
        let report: Value = serde_json::from_slice(ok(&report)).expect("JSON");
        for field in ["ops_per_second", "p50_us", "p99_us", "p999_us"] {
            assert!(report[field].as_f64().expect(field) > 0.0, "{op}: {field}");
        }
    }
}

#[test]
fn wrong_usage_exits_2_and_help_has_examples() {
    let run = |args: &[&str]| Command::new(SEALWIRE).args(args).output().expect("runs");
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["enc", "--suite", "rot13", "--key", "k"]).status.code(), Some(2));
    for command in [
        &["quickstart"][..],
        &["serve"],
        &["root", "init"],
        &["root", "unseal"],
        &["root", "adopt"],
        &["root", "status"],
        &["root", "seal"],
        &["root", "verify"],
        &["root", "reshare"],
        &["root", "rotate"],
        &["key", "create"],
        &["app", "create"],
        &["enc"],
        &["dec"],
        &["reenc"],
        &["bench"],
        &["config", "check"],
    ] {
        let help = run(&[command, &["--help"]].concat());
        assert_eq!(help.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&help.stdout).contains("Example"), "{command:?}");
    }
}

#[test]
fn a_configuration_is_checked_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let output =
            Command::new(SEALWIRE).args(["config", "check"]).arg(&file).output().expect("runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    let (code, said) = check("data_dir = '/var/lib/sealwire'\n[engine]\nchip = 'none'");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("key cards at every start") && said.contains("127.0.0.1:7700"));
    assert!(!said.contains("HTTP  "), "{said}");
    let (code, said) =
        check("data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway.http]\nmax_items = 7");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(
            "HTTP             127.0.0.1:7701, no TLS, bodies up to 33554432 bytes, 7 items"
        )
    );
    for (text, hint) in [
        ("data_dir = '/x'", "engine"),
        ("data_dir = '/x'\n[engine]\nchip = 'tpm'", "chip"),
        ("data_dir = '/x'\n[engine]\nchip = 'software'", "chip_key_file"),
        (
            "data_dir = '/x'\n[engine]\nchip = 'software'\nchip_key_file = '/x/k'",
            "must not lie in data_dir",
        ),
        ("data_dir = '/x'\n[engine]\nchip = 'pkcs11'", "chip_token"),
        (
            "data_dir = '/x'\n[engine]\nchip = 'pkcs11'\nchip_token = 'pkcs11:token=t'",
            "chip_module",
        ),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\nchip_key_file = '/k'", "belongs to chip"),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\nmemory = 'ordinary'", "memory"),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\nunseal_lapse_seconds = 0",
            "unseal_lapse_seconds",
        ),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway]\nlisten = '0.0.0.0:7700'",
            "not loopback",
        ),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway.http]\nlisten = '0.0.0.0:7701'",
            "not loopback",
        ),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway.http]\nmax_buffered = 1000",
            "max_buffered must be 5 x max_body",
        ),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway.http]\ntoken_max_ttl_seconds = 9999999",
            "a week at most",
        ),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway]\nmax_frame = 17000000", "max_frame"),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\n[gateway]\ntls_key = 'k'", "belong together"),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\n[gatway]\nlisten = '127.0.0.1:1'", "gatway"),
        (
            "data_dir = '/x'\n[engine]\nchip = 'none'\n[keystore]\nurl = 'oracle:x'",
            "url must be sqlite",
        ),
        ("data_dir = '/x'\n[engine]\nchip = 'none'\n[manager]\nfirst_index = 0", "first_index"),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(1), "{text}");
        assert!(said.contains(hint), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_by_hand_from_init_to_open() {
    let server = Server::sealed("");
    let folder = tempfile::tempdir().expect("a folder");
    let cards: Vec<String> = (1..=3)
        .map(|number| {
            let card = folder.path().join(format!("usb{number}"));
            std::fs::create_dir(&card).expect("made");
            card.display().to_string()
        })
        .collect();
    let root = |args: &[&str]| {
        let mut command = Command::new(SEALWIRE);
        command.arg("root").args(args);
        command.env("SEALWIRE_CEREMONY_SOCKET", server.data().join("engine.sock"));
        run(command, b"")
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let [a, b, c] = [&cards[0], &cards[1], &cards[2]].map(String::as_str);

    let early = root(&["unseal", "--card", a]);
    assert_eq!(early.status.code(), Some(1));
    let init = root(&["init", "--card", a, "--card", b, "--card", c, "--threshold", "2"]);
    let text = String::from_utf8_lossy(ok(&init)).into_owned();
    assert!(text.contains("2 of 3 cards open it") && text.contains("1 of the cards may be lost"));
    let pins: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("  card "))
        .filter_map(|line| {
            line.split_once("passphrase ").map(|(_, passphrase)| passphrase.to_owned())
        })
        .enumerate()
        .map(|(number, passphrase)| {
            let pin = folder.path().join(format!("pin{number}"));
            std::fs::write(&pin, passphrase).expect("written");
            pin.display().to_string()
        })
        .collect();
    assert_eq!(pins.len(), 3);
    assert!(said(&root(&["init", "--card", a, "--card", b])).contains("it is not overwritten"));
    ok(&root(&["seal"]));

    let unseal = |card: &str, pin: &str| root(&["unseal", "--card", card, "--pin-file", pin]);
    assert!(said(&unseal(a, &pins[1])).contains("wrong passphrase for card 1 of 3"));
    assert_eq!(ok(&unseal(a, &pins[0])), b"card 1: 1 of 2\n");
    assert!(said(&unseal(a, &pins[0])).contains("card 1 was already shown"));
    let status = root(&["status", "--json"]);
    let status: Value = serde_json::from_slice(ok(&status)).expect("JSON");
    assert_eq!(
        (&status["state"]["state"], &status["progress"]["have"]),
        (&"sealed".into(), &1.into())
    );
    let file = folder.path().join("usb2/sealwire.card");
    let good = std::fs::read(&file).expect("a card");
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    std::fs::write(&file, &damaged).expect("written");
    assert!(said(&unseal(b, &pins[1])).contains("this card is damaged"));
    std::fs::write(&file, b"shopping list").expect("written");
    assert!(said(&unseal(b, &pins[1])).contains("this is not a key card"));
    std::fs::write(&file, good).expect("written");
    assert!(String::from_utf8_lossy(ok(&unseal(c, &pins[2]))).contains("card 3: open, root key "));
    assert!(said(&unseal(b, &pins[1])).contains("open already"));
}
