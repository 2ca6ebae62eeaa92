//! The page, in a real browser: the whole way of a key, once in each language. Pictures of each page, light and dark,
//! are left in `target/tmp/pages/`.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::{Client, Credentials};
use sealwire_engine::document::OperatorRole;
use support::Server;
use support::browser::Browser;
use support::operators::{make, make_first, sign_in};
use support::web::{over_tls, plain, url};

const PASSWORD: &str = "amber canal spruce orbit";

/// What a page says, in a language.
struct Said {
    tag: &'static str,
    sealed_banner: &'static str,
    rotated: &'static str,
    asked_for: &'static str,
    not_on_list: &'static str,
    refused: &'static str,
    never_again: &'static str,
    whole: &'static str,
    key: &'static str,
}

const ENGLISH: Said = Said {
    tag: "en",
    sealed_banner: "Open",
    rotated: "The key has a new version",
    asked_for: "Another operator must approve it",
    not_on_list: "is not on the list",
    refused: "the address is not on the allow-list",
    never_again: "unreadable, for everybody and for ever",
    whole: "Every chain is whole",
    key: "chat",
};

const CHINESE: Said = Said {
    tag: "zh-CN",
    sealed_banner: "已解封",
    rotated: "密钥已有新版本",
    asked_for: "必须由另一位操作员审批",
    not_on_list: "不在名单上",
    refused: "地址不在 IP 白名单上",
    never_again: "永远无法读取",
    whole: "所有链完整无缺",
    key: "群聊-一",
};

/// An operator at a browser.
struct Desk<'a> {
    browser: &'a Browser,
    url: String,
    said: &'static Said,
}

impl Desk<'_> {
    async fn go(&self, path: &str) {
        self.browser.go(&format!("{}{path}", self.url)).await;
    }

    async fn picture(&self, name: &str) {
        self.browser.picture(&format!("{}-{name}", self.said.tag)).await;
    }

    async fn sign_in(&self, name: &str) {
        self.go("/sign-in").await;
        self.browser.fill("name", name).await;
        self.browser.fill("password", PASSWORD).await;
        self.browser.click("main button.primary").await;
        assert_eq!(self.browser.path().await, "/", "{}", self.browser.source().await);
    }

    async fn sign_out(&self) {
        self.browser.click(".me form button").await;
        assert_eq!(self.browser.path().await, "/sign-in");
    }

    /// Makes an app, and gives its credentials, which the page shows this once.
    async fn make_app(&self, name: &str, allow: &str, grants: &str) -> (String, String) {
        self.go("/apps").await;
        self.browser.click(".head a.primary, .empty-state a.primary").await;
        self.browser.fill("name", name).await;
        self.browser.fill("allow", allow).await;
        self.browser.fill("grants", grants).await;
        self.browser.click("main button.primary").await;
        let key = self.browser.text("#app-key code").await;
        let secret = self.browser.text("#app-secret code").await;
        self.picture("secret").await;
        // It is shown this once: neither the app's page nor a page that is asked for again has it.
        self.browser.click("main a.primary").await;
        assert!(!self.browser.source().await.contains(&secret));
        (key, secret)
    }

    /// Reloads a page until an element says something.
    async fn until(&self, css: &str, what: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = match self.browser.has(css).await {
                true => self.browser.text(css).await,
                false => String::new(),
            };
            if what(&text) {
                return text;
            }
            assert!(begun.elapsed() < Duration::from_secs(150), "{css}: {text}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.browser.reload().await;
        }
    }
}

async fn connect(server: &Server, (key, secret): &(String, String)) -> Result<Client, String> {
    let credentials = Credentials::new(key, secret).expect("in their form");
    Client::connect(&server.url(), credentials).await.map_err(|error| error.to_string())
}

/// A message there and back.
async fn talk(client: &Client, key: &str) -> u32 {
    let key = client.key(key).await.expect("a key");
    let envelope = client.enc(key.index, b"", "你好 👋".as_bytes()).await.expect("sealed");
    assert_eq!(client.dec(b"", &envelope).await.expect("opened"), "你好 👋".as_bytes());
    sealwire_protocol::Envelope::parse(&envelope).expect("an envelope").header.key_version
}

async fn whole_way(server: &Server, said: &'static Said) {
    let roles = OperatorRole::ALL;
    make_first(server, "alice", &roles, PASSWORD).await;
    let alice = sign_in(server, "alice", PASSWORD).await;
    make(server, &alice, ("bob", &roles, PASSWORD)).await;
    let browser = Browser::start(said.tag).await;
    let desk = Desk { browser: &browser, url: url(server), said };
    let here = |path: &str| format!("{}{path}", desk.url);

    // Who has not signed in is sent to the form, and then to where he wanted.
    browser.go(&here("/audit?event=used")).await;
    assert_eq!(browser.path().await, "/sign-in");
    assert_eq!(browser.attribute("html", "lang").await.as_deref(), Some(said.tag));
    desk.picture("sign-in").await;
    browser.fill("name", "alice").await;
    browser.fill("password", "not this one, surely").await;
    browser.click("main button.primary").await;
    browser.find("#trouble").await;
    browser.fill("password", PASSWORD).await;
    browser.click("main button.primary").await;
    assert_eq!(browser.path().await, "/audit");
    assert_eq!(browser.cookies_of_scripts().await, "", "no script can read a cookie");
    // The policy lets the page's own style and script through.
    assert_eq!(browser.run("return getComputedStyle(document.body).display").await, "flex");
    for (page, name) in
        [("/keys", "keys-empty"), ("/apps", "apps-empty"), ("/requests", "requests-empty")]
    {
        desk.go(page).await;
        desk.picture(name).await;
    }

    // A key, and an app that uses it.
    desk.go("/keys").await;
    browser.click(".head a.primary, .empty-state a.primary").await;
    desk.picture("key-new").await;
    browser.fill("name", said.key).await;
    browser.click("main button.primary").await;
    browser.find("#v1 .badge.active").await;
    assert_ne!(browser.attribute("#v1 time", "title").await, None, "the script has run");
    let app = desk.make_app("im-gateway", "127.0.0.0/8", &format!("enc,dec:{}", said.key)).await;
    let client = connect(server, &app).await.expect("logs in");
    assert_eq!(talk(&client, said.key).await, 1);
    desk.go("/keys").await;
    browser.click("#keys tbody a").await;
    browser.click("#rotate").await;
    assert!(browser.text("#news").await.contains(said.rotated));
    desk.picture("key").await;
    let begun = Instant::now();
    while talk(&client, said.key).await != 2 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the new version seals");
    }

    // An app that may log in from elsewhere alone; the page tells so before, and shows the refusal afterwards.
    let elsewhere = desk.make_app("elsewhere", "192.0.2.0/24", "enc:*").await;
    browser.fill("address", "127.0.0.1").await;
    browser.click("#allow button").await;
    assert!(browser.text("#checked").await.contains(said.not_on_list));
    browser.fill("address", "192.0.2.7").await;
    browser.click("#allow button").await;
    browser.find("#checked .badge.active").await;
    connect(server, &elsewhere).await.expect_err("refused");
    let refused = desk.until("#refused tbody", |text| text.contains("127.0.0.1")).await;
    assert!(refused.contains(said.refused), "{refused}");
    desk.picture("app").await;
    desk.go("/apps").await;
    desk.picture("apps").await;

    // The traffic, as soon as its minute is over.
    desk.go("/").await;
    assert!(browser.text("#seal").await.contains(said.sealed_banner));
    let all = |text: &str| {
        let counts = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        text.contains("im-gateway") && counts.sum::<u64>() >= 4
    };
    desk.until("#busiest tbody", all).await;
    // The wrong password, and the app's login.
    desk.until("#refusals .figures b", |text| text.trim() == "2").await;
    desk.picture("overview").await;

    // Destruction: says what becomes unreadable, wants the name, and takes a second person.
    desk.go("/keys").await;
    browser.click("#keys tbody a").await;
    browser.click("#v1 a[href*=destroy]").await;
    let consequence = browser.text("#consequence").await;
    assert!(consequence.contains(said.never_again) && consequence.contains("im-gateway"));
    desk.picture("key-destroy").await;
    browser.fill("name", "another").await;
    assert_eq!(browser.attribute("#confirm", "disabled").await.as_deref(), Some("true"));
    browser.fill("name", said.key).await;
    browser.click("#confirm").await;
    assert!(browser.text("#news").await.contains(said.asked_for));
    assert!(!browser.has("#approve").await, "not by who has asked");
    let request = browser.path().await;
    desk.go("/requests").await;
    desk.picture("requests").await;
    desk.sign_out().await;
    desk.sign_in("bob").await;
    desk.go(&request).await;
    desk.picture("request").await;
    browser.fill("name", said.key).await;
    browser.click("#approve").await;
    browser.find(".badge.done").await;
    desk.go("/keys").await;
    browser.click("#keys tbody a").await;
    browser.find("#v1 .badge.destroy-scheduled").await;
    desk.go("/").await;
    browser.find("#attention .badge.bad").await;
    desk.picture("overview-attention").await;
    // It is called off.
    desk.go("/keys").await;
    browser.click("#keys tbody a").await;
    browser.click("#v1 form[action$=cancel-destroy] button").await;
    browser.find("#v1 .badge.disabled").await;

    // The audit: what was done is there, and every chain is whole.
    desk.go("/audit?event=changed").await;
    let records = browser.text("#records").await;
    assert!(records.contains("key.rotate") && records.contains("bob"), "{records}");
    browser.click("#check form button").await;
    desk.until("#whole", |text| text.contains(said.whole)).await;
    desk.picture("audit").await;
    for (page, name) in [
        ("/operators", "operators"),
        ("/operators/alice", "operator"),
        ("/new/operator", "operator-new"),
        ("/root", "root"),
        ("/account", "account"),
        ("/nothing", "nothing"),
        ("/new/app", "app-new"),
    ] {
        desk.go(page).await;
        let hidden =
            "return [...document.querySelectorAll('[hidden]')].every(e => !e.offsetParent)";
        assert_eq!(browser.run(hidden).await, true, "{page}: what is hidden is seen");
        browser.find(".me").await;
        desk.picture(name).await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_can_neither_frame_it_nor_send_its_forms() {
    let server = plain().await;
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    let browser = Browser::start("en").await;
    let desk = Desk { browser: &browser, url: url(&server), said: &ENGLISH };
    desk.sign_in("alice").await;
    // One of another site, to which the browser sends no cookie; and one of the same site, as another port of a host
    // is to a browser, to which it sends it.
    for host in ["localhost", "127.0.0.1"] {
        let evil = another_site(
            host,
            format!(
                "<!doctype html><title>evil</title><iframe src='{url}/'></iframe><a href='{url}/account'>on</a>\
                 <form method=post action='{url}/new/key'><input name=name value=evil><button>go</button></form>",
                url = desk.url
            ),
        )
        .await;
        browser.go(&evil).await;
        browser.find("iframe").await;
        assert!(!browser.shows_in_frame("main").await, "framed");
        browser.click("button").await;
        assert!(browser.source().await.contains("This form is not from here"), "{host}");
        // Whoever follows a link is still signed in.
        browser.go(&evil).await;
        browser.click("a").await;
        browser.find(".me").await;
        assert_eq!(browser.path().await, "/account", "{host}");
    }
    let alice = sign_in(&server, "alice", PASSWORD).await;
    assert!(alice.list_keys().await.expect("listed").keys.is_empty());
    browser.close().await;
}

/// A site that shows a page, whatever is asked for.
async fn another_site(host: &str, page: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{host}:{}/", listener.local_addr().expect("an address").port());
    let routes = axum::Router::new().fallback(async move || axum::response::Html(page.clone()));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_used_from_the_keyboard_and_on_a_telephone() {
    let server = plain().await;
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    let browser = Browser::start("en").await;
    let desk = Desk { browser: &browser, url: url(&server), said: &ENGLISH };
    // The first field has the focus; ENTER sends the form.
    desk.go("/sign-in").await;
    browser.press("alice\u{e004}").await;
    browser.press(&format!("{PASSWORD}\u{e007}")).await;
    browser.find("#seal").await;
    // TAB begins with the way past the menu.
    browser.press("\u{e004}").await;
    let focused = browser.run("return document.activeElement.getAttribute('href')").await;
    assert_eq!(focused, "#content");
    desk.go("/new/key").await;
    browser.press("chat\u{e007}").await;
    browser.find("#v1").await;
    desk.go("/keys").await;
    browser.press("/").await;
    assert_eq!(browser.run("return document.activeElement.name").await, "search");
    browser.press("ch\u{e007}").await;
    browser.find("#keys tbody a").await;
    assert!(browser.run("return location.search").await.as_str().expect("a query").contains("ch"));
    // Nothing is wider than a telephone, but for tables, which scroll by themselves.
    browser.set_width(500).await;
    for page in [
        "/",
        "/keys",
        "/keys/chat",
        "/keys/chat/destroy",
        "/apps",
        "/audit",
        "/operators/alice",
        "/root",
        "/account",
    ] {
        desk.go(page).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        let what = browser
            .run("return [...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))")
            .await;
        assert!(wider.as_i64().expect("a number") <= 0, "{page}: {wider}: {what}");
    }
    desk.go("/").await;
    browser.picture_as_it_is("telephone").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_way_in_english_over_tls() {
    let (server, _) = over_tls().await;
    whole_way(&server, &ENGLISH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_way_in_chinese_on_loopback() {
    let server = plain().await;
    whole_way(&server, &CHINESE).await;
}
