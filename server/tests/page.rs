//! What a browser may do with the pages, and what a page of another site may not.

mod support;

use hyper::StatusCode;
use sealwire_engine::document::OperatorRole;
use sealwire_manager::{CreateKey, ManagerClient};
use support::Server;
use support::operators::{make, make_first, sign_in};
use support::web::{FORM, PAGES, Visitor, form, plain};

const PASSWORD: &str = "amber canal spruce orbit";

/// Every form, with fields that would do something.
const FORMS: &[(&str, &[(&str, &str)])] = &[
    (
        "/account",
        &[
            ("current", PASSWORD),
            ("new", "copper meadow falcon ridge"),
            ("again", "copper meadow falcon ridge"),
        ],
    ),
    ("/new/key", &[("name", "evil")]),
    (
        "/keys/chat/set",
        &[("sensitive", "true"), ("min_enc", "1"), ("min_dec", "1"), ("revision", "6")],
    ),
    ("/keys/chat/rotate", &[]),
    ("/keys/chat/disable", &[("name", "chat")]),
    ("/keys/chat/destroy", &[("name", "chat"), ("version", "1")]),
    ("/new/app", &[("name", "evil"), ("allow", "0.0.0.0/0"), ("grants", "enc:*")]),
    ("/apps/im/disable", &[("name", "im")]),
    ("/apps/im/rotate-secret", &[("name", "im"), ("revision", "7")]),
    (
        "/new/operator",
        &[("name", "evil"), ("roles", "root-officer"), ("password", "copper meadow falcon ridge")],
    ),
    ("/keys/chat/close", &[("name", "chat"), ("version", "1")]),
    ("/keys/chat/cancel-destroy", &[("version", "1")]),
    (
        "/apps/im/set",
        &[("name", "im"), ("allow", "0.0.0.0/0"), ("grants", "enc:*"), ("revision", "7")],
    ),
    ("/apps/im/enable", &[]),
    ("/requests/rq_000000000000000000000000/approve", &[]),
    ("/requests/rq_000000000000000000000000/refuse", &[]),
    ("/operators/bob/password", &[("name", "bob"), ("password", "copper meadow falcon ridge")]),
    ("/operators/bob/enable", &[]),
    ("/operators/bob/revoke-token", &[("token", "tk_0")]),
    ("/operators/bob/disable", &[("name", "bob")]),
    ("/operators/bob/roles", &[("name", "bob"), ("roles", "auditor")]),
    ("/root", &[("wait_days", "1"), ("revision", "0")]),
    ("/audit/check", &[]),
    ("/sign-out", &[]),
];

/// A site with two operators of all roles, a key and an app, and the first one's client.
async fn site() -> (Server, ManagerClient) {
    let server = plain().await;
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    let alice = sign_in(&server, "alice", PASSWORD).await;
    make(&server, &alice, ("carol", &[OperatorRole::Auditor], PASSWORD)).await;
    make(&server, &alice, ("bob", &OperatorRole::ALL, PASSWORD)).await;
    let key = CreateKey { name: "chat".into(), ..CreateKey::default() };
    alice.create_key(&key).await.expect("made");
    let allow = vec!["10.0.0.0/8".parse().expect("a network")];
    let grants = vec!["enc,dec:chat".parse().expect("a grant")];
    let app = sealwire_manager::CreateApp { name: "im".into(), allow, grants, http: false };
    alice.create_app(&app).await.expect("made");
    (server, alice)
}

async fn revision(alice: &ManagerClient) -> Option<u64> {
    alice.status().await.expect("told").revision
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_what_a_browser_may_do_and_has_no_script_within() {
    let (server, _) = site().await;
    let mut visitor = Visitor::new(&server);
    let mut pages = vec![visitor.get("/sign-in").await, visitor.sign_in("alice", "wrong").await];
    let signed_in = visitor.sign_in("alice", PASSWORD).await;
    assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{}", signed_in.body);
    for path in PAGES {
        let page = visitor.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        pages.push(page);
    }
    for missing in [
        "/nothing",
        "/keys/none",
        "/apps/none",
        "/operators/none",
        "/requests/none",
        "/keys/chat/none",
    ] {
        let page = visitor.get(missing).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{missing}");
        pages.push(page);
    }
    pages.push(visitor.get("/audit?from=yesterday").await);
    for page in pages {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("cache-control"), "no-store");
        let html = page.body.to_lowercase();
        assert!(html.contains("<!doctype html>"), "{html}");
        for script in html.split("<script").skip(1) {
            assert!(script.starts_with(" src=\"/assets/"), "{script}");
        }
        for inline in
            [" style=", "<style", " onclick", " onload", "javascript:", "http://", "https://"]
        {
            assert!(!html.contains(inline), "{inline}: {html}");
        }
    }
    // What pages are made with is kept by browsers, and nothing else is there.
    let page = visitor.get("/").await.body;
    let style = page.split('"').find(|text| text.ends_with("page.css")).expect("a style sheet");
    let style = visitor.get(style).await;
    assert!(style.header("cache-control").contains("immutable"));
    assert_eq!(visitor.get("/assets/0000-page.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_signed_in_sees_the_form_alone_and_can_send_nothing() {
    let (server, alice) = site().await;
    let before = revision(&alice).await;
    for path in PAGES {
        let mut stranger = Visitor::new(&server);
        let page = stranger.get(path).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}");
        assert!(page.header("location").starts_with("/sign-in"), "{path}");
    }
    let mut stranger = Visitor::new(&server);
    for (path, fields) in FORMS {
        let answer = stranger.post(path, fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}: {}", answer.body);
        assert!(answer.header("location").starts_with("/sign-in"), "{path}");
        // With a session that is none.
        stranger.cookies.insert("sealwire-session".into(), "made-up".into());
        let answer = stranger.post(path, fields).await;
        assert!(answer.header("location").starts_with("/sign-in"), "{path}");
        stranger.cookies.clear();
    }
    // A link from another site is followed once more from here, where the browser sends what it keeps; nothing is
    // forgotten for it.
    let link = stranger.send(("GET", "/keys/chat"), &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(link.status, StatusCode::OK);
    assert!(link.body.contains("content=\"0;url=/keys/chat\""), "{}", link.body);
    assert!(!link.header("set-cookie").contains("sealwire-session"));
    // A cookie is no key to the API.
    let mut visitor = Visitor::new(&server);
    visitor.sign_in("alice", PASSWORD).await;
    assert_eq!(visitor.get("/v1/keys").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(revision(&alice).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_does_nothing() {
    let (server, alice) = site().await;
    let before = revision(&alice).await;
    let (mut visitor, mut other) = (Visitor::new(&server), Visitor::new(&server));
    visitor.sign_in("alice", PASSWORD).await;
    other.sign_in("bob", PASSWORD).await;
    let (own, foreign) = (visitor.csrf().await, other.csrf().await);
    assert_ne!(own, foreign);
    let strangers = Visitor::new(&server).csrf().await;
    let (long, origin) = ("x".repeat(100_000), ("origin", "https://evil.example.net"));
    for (path, fields) in FORMS {
        // Without a token, and with those of others.
        for csrf in ["", "0", &foreign, &strangers, &own.to_uppercase()] {
            let fields: Vec<_> = [("csrf", csrf)].into_iter().chain(fields.to_vec()).collect();
            let answer = visitor.send(("POST", path), FORM, &form(&fields)).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {csrf}");
        }
        // With the right one, from elsewhere, as browsers say, or in another form.
        let fields: Vec<_> = [("csrf", own.as_str())].into_iter().chain(fields.to_vec()).collect();
        let body = form(&fields);
        for site in ["cross-site", "same-site", "none"] {
            let headers = [FORM[0], ("sec-fetch-site", site)];
            let answer = visitor.send(("POST", path), &headers, &body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {site}");
        }
        let answer = visitor.send(("POST", path), &[FORM[0], origin], &body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        for media in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
            let answer = visitor.send(("POST", path), &[("content-type", media)], &body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {media}");
        }
        let answer = visitor.send(("POST", path), FORM, &format!("{body}&more={long}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        // By a way that browsers take without asking.
        let answer = visitor.get(&format!("{path}?{body}")).await;
        assert!(answer.status != StatusCode::SEE_OTHER, "{path}");
    }
    assert_eq!(revision(&alice).await, before, "nothing was done");
    // The sign-in form, too: nobody is signed in as somebody else.
    let fields = [("csrf", foreign.as_str()), ("name", "bob"), ("password", PASSWORD)];
    let mut stranger = Visitor::new(&server);
    stranger.get("/sign-in").await;
    let answer = stranger.send(("POST", "/sign-in"), FORM, &form(&fields)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(!stranger.cookies.contains_key("sealwire-session"));
    // The same session is still good for its own forms.
    let answer = visitor.post("/keys/chat/rotate", &[]).await;
    assert_eq!(answer.header("location"), "/keys/1");
    assert!(revision(&alice).await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_somebody_else_knows_is_never_taken_over() {
    let (server, _) = site().await;
    let session = "sealwire-session";
    // One that was planted, made up or somebody's own, is not the one after signing in.
    let mut attacker = Visitor::new(&server);
    attacker.sign_in("carol", PASSWORD).await;
    for planted in ["0".repeat(43), attacker.cookies[session].clone()] {
        let mut victim = Visitor::new(&server);
        victim.cookies.insert(session.into(), planted.clone());
        let answer = victim.sign_in("alice", PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert_ne!(victim.cookies[session], planted);
        assert!(victim.get("/").await.body.contains("alice"));
        // Whoever has planted it has nothing of it.
        let mut other = Visitor::new(&server);
        other.cookies.insert(session.into(), planted);
        assert!(other.get("/").await.header("location").starts_with("/sign-in"));
    }
    // Each sign-in is another session; and signed out, it is over.
    let mut visitor = Visitor::new(&server);
    let answer = visitor.sign_in("alice", PASSWORD).await;
    let set: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    let set = set.iter().find(|line| line.as_bytes().starts_with(session.as_bytes()));
    let set = set.expect("a cookie").to_str().expect("text");
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"),
        "{set}"
    );
    let first = visitor.cookies[session].clone();
    visitor.sign_in("alice", PASSWORD).await;
    assert_ne!(visitor.cookies[session], first);
    let kept = visitor.cookies.clone();
    visitor.post("/sign-out", &[]).await;
    assert!(!visitor.cookies.contains_key(session));
    visitor.cookies = kept;
    assert!(visitor.get("/").await.header("location").starts_with("/sign-in"));
    // The way on is one within the site.
    for (to, goes) in [
        ("/keys/chat?x=1", "/keys/chat?x=1"),
        ("//evil.example.net/", "/"),
        ("https://evil.example.net/", "/"),
        ("/\\evil.example.net", "/"),
        ("/\r\nSet-Cookie: x=y", "/"),
        ("", "/"),
    ] {
        let mut visitor = Visitor::new(&server);
        let fields = [("name", "alice"), ("password", PASSWORD), ("to", to)];
        assert_eq!(visitor.post("/sign-in", &fields).await.header("location"), goes, "{to:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_lets_nobody_do_what_the_api_does_not() {
    let (server, alice) = site().await;
    // An auditor sees everything, and changes nothing.
    let mut carol = Visitor::new(&server);
    carol.sign_in("carol", PASSWORD).await;
    for path in ["/", "/keys", "/keys/chat", "/apps/im", "/audit", "/operators", "/root"] {
        let page = carol.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for form in
            ["/rotate\"", "/disable\"", "action=\"/root\"", "/new/operator", "/new/key", "/new/app"]
        {
            assert!(!page.body.contains(form), "{path} offers {form}");
        }
    }
    let before = revision(&alice).await;
    for (path, fields) in FORMS {
        if ["/account", "/sign-out", "/audit/check"].contains(path) {
            continue;
        }
        let answer = carol.post(path, fields).await;
        let told = match answer.status {
            StatusCode::SEE_OTHER => carol.get(answer.header("location")).await.body,
            _ => answer.body,
        };
        let refused = match path.contains("rq_") {
            true => "It is not there",
            false => "Your roles do not cover this",
        };
        assert!(told.contains(refused), "{path}: {told}");
    }
    // A wrong password is on record, also from a page.
    let mut bob = Visitor::new(&server);
    bob.sign_in("bob", PASSWORD).await;
    let fields = [
        ("current", "not this one, surely"),
        ("new", "copper meadow falcon ridge"),
        ("again", "copper meadow falcon ridge"),
    ];
    assert_eq!(bob.post("/account", &fields).await.status, StatusCode::UNAUTHORIZED);
    let query = sealwire_manager::audit::AuditQuery {
        event: Some("login-refused".into()),
        about: Some("session/password".into()),
        ..Default::default()
    };
    let asked = std::time::Instant::now();
    while alice.list_audit(&query).await.expect("a page").records.is_empty() {
        assert!(asked.elapsed() < std::time::Duration::from_secs(10), "it is recorded");
    }
    // What is dangerous is not done without the name.
    let mut visitor = Visitor::new(&server);
    visitor.sign_in("alice", PASSWORD).await;
    for path in [
        "/keys/chat/close",
        "/keys/chat/disable",
        "/keys/chat/destroy",
        "/apps/im/disable",
        "/apps/im/set",
        "/apps/im/rotate-secret",
        "/operators/bob/disable",
        "/operators/bob/roles",
        "/operators/bob/password",
    ] {
        for name in ["", "Chat", "chat2", "i"] {
            let answer = visitor.post(path, &[("name", name), ("version", "1")]).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {name}");
            assert!(answer.body.contains("nothing was done"), "{path}");
        }
    }
    assert_eq!(revision(&alice).await, before, "nothing was done");
    // A page that is sent again does not make a second secret.
    let app = alice.show_app("im").await.expect("an app");
    let revision = app.revision.to_string();
    let fields = [("name", "im"), ("revision", revision.as_str()), ("overlap_hours", "1")];
    let made = visitor.post("/apps/im/rotate-secret", &fields).await;
    assert!(made.body.contains("sws1_"), "{}", made.body);
    let again = visitor.post("/apps/im/rotate-secret", &fields).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(!again.body.contains("sws1_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_site_is_sealed_the_pages_say_how_many_cards_are_missing() {
    let (server, _) = site().await;
    let mut visitor = Visitor::new(&server);
    visitor.sign_in("alice", PASSWORD).await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    server.ceremony().seal().await.expect("sealed");
    let mut stranger = Visitor::new(&server);
    assert!(stranger.get("/sign-in").await.body.contains("Key cards still missing: 3."));
    let refused = stranger.sign_in("alice", PASSWORD).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.body.contains("The site is sealed"), "{}", refused.body);
    // One card later.
    let card = &server.cards[0];
    let shown = server.ceremony().unseal(&card.bytes().expect("a card"), &card.passphrase).await;
    shown.expect("taken");
    assert!(stranger.get("/sign-in").await.body.contains("Key cards still missing: 2."));
    // Who had signed in sees that, too, and nothing that takes the engine.
    let page = visitor.get("/").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(page.body.contains("Key cards still missing: 2.") && page.body.contains("Not known"));
    assert_eq!(visitor.get("/root").await.status, StatusCode::OK);
    let page = visitor.get("/keys").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.body.contains("The site is sealed"));
    let told = visitor.post("/keys/chat/rotate", &[]).await;
    assert!(told.body.contains("The site is sealed"), "{}", told.status);
    for card in &server.cards[1..] {
        let bytes = card.bytes().expect("a card");
        server.ceremony().unseal(&bytes, &card.passphrase).await.expect("taken");
    }
    assert_eq!(visitor.get("/keys").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_is_done_just_so_by_who_has_asked() {
    let (server, alice) = site().await;
    let key = CreateKey { name: "secret".into(), sensitive: true, ..CreateKey::default() };
    alice.create_key(&key).await.expect("made");
    let (mut visitor, mut second) = (Visitor::new(&server), Visitor::new(&server));
    visitor.sign_in("alice", PASSWORD).await;
    second.sign_in("bob", PASSWORD).await;
    // An app that may open what is sensitive; then another secret for it, with a time that is no whole hour.
    let fields =
        [("name", "reader"), ("allow", "10.0.0.0/8\n2001:db8::1"), ("grants", "dec:secret")];
    let asked = visitor.post("/new/app", &fields).await;
    let request = asked.header("location").to_owned();
    assert!(request.starts_with("/requests/rq_"), "{request} {}", asked.body);
    let page = visitor.get(&request).await.body;
    assert!(page.contains("another operator must approve it") && page.contains("Take it back"));
    let page = second.get(&request).await.body;
    assert!(page.contains("dec:secret") && page.contains("2001:db8::1/128"), "{page}");
    assert!(page.contains("Who has asked sees the secret"));
    second.post(&format!("{request}/approve"), &[]).await;
    assert!(visitor.get("/requests").await.body.contains("Make app"), "it still waits");
    let page = visitor.get(&request).await.body;
    let (_, on) = page.split_once("href=\"/new/app?request=").expect("a way on");
    let id = on.split('"').next().expect("an id").to_owned();
    let page = visitor.get(&format!("/new/app?request={id}")).await.body;
    assert!(page.contains("dec:secret") && page.contains("2001:db8::1/128"), "{page}");
    // It is hers, and nobody else is told that it was approved for him.
    let foreign = second.get(&format!("/new/app?request={id}")).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let made = visitor.post("/new/app", &fields).await;
    assert!(made.body.contains("sws1_"), "{}", made.body);
    let over = visitor.get(&format!("/new/app?request={id}")).await;
    assert_eq!(over.status, StatusCode::NOT_FOUND, "it is done");
    let app = alice.show_app("reader").await.expect("made");
    let wish =
        sealwire_manager::RotateSecret { overlap_seconds: 5400, drop_older: true, http: false };
    let asked = support::operators::asked(alice.rotate_app_secret("reader", wish).await);
    let request = format!("/requests/{}", asked.id);
    second.post(&format!("{request}/approve"), &[("name", "reader")]).await;
    let revision = app.revision.to_string();
    let fields =
        [("name", "reader"), ("revision", revision.as_str()), ("request", asked.id.as_str())];
    let other = visitor.get(&format!("/apps/im/rotate-secret?request={}", asked.id)).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "of another app");
    let page = visitor.get(&format!("/apps/reader/rotate-secret?request={}", asked.id)).await.body;
    assert!(page.contains("90 minutes"), "{page}");
    let made = visitor.post("/apps/reader/rotate-secret", &fields).await;
    assert!(made.body.contains("sws1_"), "{}", made.body);
    assert_eq!(alice.show_request(&asked.id).await.expect("there").state, "done");
    // Other permissions, that take nobody else as they open no door.
    let app = alice.show_app("im").await.expect("an app");
    let page = visitor.get("/apps/im/set").await.body;
    assert!(page.contains("10.0.0.0/8") && page.contains("enc,dec:chat"), "{page}");
    let revision = app.revision.to_string();
    let fields = [
        ("name", "im"),
        ("revision", revision.as_str()),
        ("allow", "10.0.0.0/8, 192.0.2.7"),
        ("grants", "enc:chat\r\nenc:more*"),
    ];
    let set = visitor.post("/apps/im/set", &fields).await;
    assert_eq!(set.status, StatusCode::SEE_OTHER, "{}", set.body);
    let app = alice.show_app("im").await.expect("an app");
    assert_eq!((app.allow.len(), app.grants.len()), (2, 2));
    assert!(visitor.post("/apps/im/set", &fields).await.body.contains("sent twice"));
    // Settings that somebody else has changed meanwhile are not changed back.
    let key = alice.show_key("chat").await.expect("a key");
    visitor.post("/keys/chat/rotate", &[]).await;
    let revision = key.revision.to_string();
    let fields =
        [("min_enc", "1"), ("min_dec", "1"), ("renew_days", "30"), ("revision", revision.as_str())];
    let refused = visitor.post("/keys/chat/set", &fields).await;
    assert!(refused.body.contains("It was changed meanwhile"), "{}", refused.body);
    let revision = alice.show_key("chat").await.expect("a key").revision.to_string();
    let fields = [
        ("min_enc", "1"),
        ("min_dec", "1"),
        ("renew_days", "0.5"),
        ("revision", revision.as_str()),
    ];
    assert_eq!(visitor.post("/keys/chat/set", &fields).await.header("location"), "/keys/1");
    let key = alice.show_key("chat").await.expect("a key");
    assert_eq!((key.renew_after_seconds, key.min_dec), (Some(43_200), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_found() {
    let (server, alice) = site().await;
    for number in 0..99 {
        let name = format!("room-{number:02}");
        alice.create_key(&CreateKey { name, ..CreateKey::default() }).await.expect("made");
    }
    let mut visitor = Visitor::new(&server);
    visitor.sign_in("alice", PASSWORD).await;
    // Page by page, to the end: with 100 keys, the last full page says that there may be another.
    let (mut path, mut seen) = ("/keys".to_owned(), 0);
    loop {
        let page = visitor.get(&path).await.body;
        seen += page.matches("href=\"/keys/").count();
        assert!(!page.contains("There are no keys yet"), "{path}");
        let Some((_, next)) = page.split_once("rel=\"next\" href=\"") else { break };
        path = next.split('"').next().expect("a path").to_owned();
    }
    assert_eq!(seen, 100);
    let found = visitor.get("/keys?search=M-7").await.body;
    assert_eq!(found.matches("href=\"/keys/").count(), 10, "room-70 to room-79: {found}");
    let exact = visitor.get("/keys?search=room-42").await.body;
    assert_eq!(exact.matches("href=\"/keys/").count(), 1);
    assert!(visitor.get("/keys?search=none").await.body.contains("Nothing is called like"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_have_named_is_text_and_nothing_else() {
    let (server, alice) = site().await;
    let mut visitor = Visitor::new(&server);
    visitor.sign_in("alice", PASSWORD).await;
    let name = "<img/src=x&\"'聊天";
    let made = visitor.post("/new/key", &[("name", name)]).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    let place = made.header("location").to_owned();
    visitor.post("/new/app", &[("name", name), ("grants", "enc:chat")]).await;
    assert_eq!(alice.show_key(name).await.expect("made").name, name);
    for path in [place.as_str(), "/keys", "/apps", "/audit", "/keys?search=%3Cimg"] {
        let page = visitor.get(path).await.body;
        assert!(page.contains("聊天") && !page.contains("<img/src"), "{path}: {page}");
    }
    // In another language, and dark, as somebody has chosen.
    let chosen =
        visitor.post("/look", &[("language", "zh-CN"), ("theme", "dark"), ("to", "/keys")]).await;
    assert_eq!(chosen.header("location"), "/keys");
    let page = visitor.get("/keys").await.body;
    assert!(
        page.contains("lang=\"zh-CN\"")
            && page.contains("data-theme=\"dark\"")
            && page.contains("密钥")
    );
}
