//! The words of the pages, in each language. One that is missing in a language does not compile.

use super::language::Language;

macro_rules! words {
    ($($name:ident: $english:literal, $chinese:literal;)+) => {
        /// The words of a language.
        pub(super) struct Words {
            $(pub(super) $name: &'static str,)+
        }

        impl Language {
            pub(super) const fn words(self) -> &'static Words {
                match self {
                    Self::English => &ENGLISH,
                    Self::Chinese => &CHINESE,
                }
            }
        }

        static ENGLISH: Words = Words { $($name: $english,)+ };
        static CHINESE: Words = Words { $($name: $chinese,)+ };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $chinese),)+];
    };
}

words! {
    // Around every page
    skip: "Skip to the content", "跳到正文";
    menu: "Menu", "菜单";
    overview: "Overview", "概览";
    keys: "Keys", "密钥";
    apps: "Apps", "应用";
    approvals: "Approvals", "审批";
    audit: "Audit", "审计";
    operators: "Operators", "操作员";
    root: "Root key", "根密钥";
    account: "Your account", "我的账户";
    language: "Language", "语言";
    theme: "Colours", "配色";
    theme_system: "System", "跟随系统";
    theme_light: "Light", "浅色";
    theme_dark: "Dark", "深色";
    to_overview: "To the overview", "回到概览";
    try_again: "To that page", "回到该页";
    copy: "Copy", "复制";
    copied: "Copied", "已复制";
    search: "Search", "搜索";
    save: "Save", "保存";
    yes: "Yes", "是";
    no: "No", "否";
    all: "All", "全部";
    never: "never", "从不";
    after: "after {}", "{}后";
    after_messages: "after {} messages", "{} 条消息后";
    from: "from", "自";
    leave_it: "Leave it as it is", "保持不变";
    name: "Name", "名称";
    key: "Key", "密钥";
    state: "State", "状态";
    made: "Made", "创建时间";
    version: "Version", "版本";
    versions: "Versions", "版本";
    revision: "Revision", "修订号";
    acts: "Acts", "操作";
    settings: "Settings", "设置";
    expires: "Expires", "过期时间";
    what: "What", "内容";
    who: "Who", "操作者";
    when: "When", "时间";

    // Signing in
    sign_in: "Sign in", "登录";
    sign_out: "Sign out", "退出";
    password: "Password", "密码";
    site_open: "The site is open.", "站点已解封。";
    sealed_sign_in: "Nobody can sign in until key cards are shown at an engine.", "在加密引擎出示密钥卡之前，无法登录。";
    away_sign_in: "The engines cannot be reached, so nobody can sign in.", "无法连接加密引擎，因此无法登录。";
    first_operator: "The first operator is made on the server:", "第一位操作员须在服务器上创建：";
    roles: "Roles", "角色";
    role_key_admin: "makes and manages keys", "创建和管理密钥";
    role_app_admin: "makes and manages apps", "创建和管理应用";
    role_auditor: "sees everything, changes nothing", "查看一切，不做更改";
    role_root_officer: "leads root rotations, makes operators, approves everything", "主持根密钥轮换，创建操作员，审批一切请求";
    a_role_at_least: "Choose a role at least: nothing was done", "请至少选择一个角色：未做任何操作";
    change_password: "Change the password", "修改密码";
    password_now: "Current password", "当前密码";
    password_new: "New password", "新密码";
    password_again: "New password once more", "再次输入新密码";
    password_rules: "At least 12 characters, and none that a program would guess first.", "至少 12 个字符，且不能是容易被程序猜到的密码。";
    password_first: "Somebody else has chosen your password. Change it, then everything else is open to you.", "您的密码由他人设定。请先修改密码，然后才能进行其他操作。";
    passwords_differ: "The two new passwords differ", "两次输入的新密码不一致";
    password_changed: "The password was changed.", "密码已修改。";
    tokens: "Tokens", "令牌";
    tokens_by_command: "Tokens for programs are made on the command line:", "供程序使用的令牌在命令行创建：";

    // What was refused
    sign_in_needed: "Sign in first", "请先登录";
    sign_in_refused: "Name or password is wrong, or the operator is disabled", "名称或密码错误，或该操作员已被停用";
    slow_down: "Too many wrong passwords: wait, then try again", "密码错误次数过多：请稍候再试";
    role_needed: "Your roles do not cover this", "您的角色无权进行此操作";
    second_person: "Somebody else than who has asked must approve it", "必须由申请人以外的人审批";
    not_there: "It is not there", "不存在";
    name_taken: "The name is taken", "名称已被占用";
    not_in_this_state: "Its state does not allow this", "当前状态不允许此操作";
    site_sealed: "The site is sealed", "站点已封存";
    site_away: "The engines or the database cannot be reached", "无法连接加密引擎或数据库";
    nothing_recorded: "Nothing can be recorded now, so nothing is done", "目前无法写入审计记录，因此不执行任何操作";
    not_possible: "This is not possible", "无法执行";
    no_such_page: "There is no such page", "没有这个页面";
    foreign_form: "This form is not from here, or its session is over: go back, reload the page, and send it again", "表单并非来自本站，或其会话已结束：请返回并刷新页面后重新提交";
    went_wrong: "Something went wrong", "出错了";
    error_number: "Error {}", "错误 {}";
    name_differs: "The name that you typed is another one: nothing was done", "输入的名称不一致：未做任何操作";
    changed_meanwhile: "It was changed meanwhile, or this page was sent twice: nothing was done", "其间已有更改，或页面被重复提交：未做任何操作";
    tampered: "Tampered with", "被篡改";
    tampered_means: "Rows of the database do not verify, somebody has changed them: {}. Restore them from a backup, and find out who it was.", "数据库中的记录未通过校验，已被人改动：{}。请从备份恢复，并查明是谁所为。";

    // Overview
    open: "Open", "已解封";
    sealed: "Sealed", "已封存";
    away: "Away", "无法连接";
    up: "Up", "正常";
    open_means: "Messages are sealed and opened, and keys can be managed.", "消息可加密和解密，密钥可管理。";
    cards_missing: "Key cards still missing: {}.", "还缺密钥卡：{} 张。";
    unseal_how: "Nothing is sealed or opened. Custodians show their cards at an engine:", "目前不能加密或解密。请保管人在加密引擎出示密钥卡：";
    away_means: "No engine can be reached: look whether they run, and at the network between.", "无法连接任何加密引擎：请检查其是否运行以及之间的网络。";
    engines_open: "Engines open", "已解封的加密引擎";
    keystore: "Keystore", "密钥库";
    attention: "What needs attention", "需要注意";
    attention_none: "Nothing: no version near its limit, none old, no destruction scheduled, no request waiting.", "无：没有接近用量上限的版本、过旧的密钥、计划中的销毁或等待审批的请求。";
    not_known_now: "Not known while the site is sealed or away.", "站点封存或无法连接时不可知。";
    near_limit: "Near its limit", "接近上限";
    near_limit_means: "v{0}: {2} % of what {1} allows is used up", "v{0}：{1} 允许的用量已用去 {2} %";
    old_key: "Old", "过旧";
    old_key_means: "v{} seals for more than two years: rotate it. Made", "v{} 已使用两年以上，请轮换。创建于";
    destroy_means: "v{} is destroyed for good from", "v{} 将被永久销毁，时间：";
    requests_wait: "Requests that wait for a second person: {}", "等待第二人审批的请求：{}";
    ages_of_first: "The ages of the first {} keys were looked at.", "仅检查了前 {} 个密钥的使用时间。";
    traffic: "Messages", "消息";
    messages_hour: "in the last hour", "（最近一小时）";
    refusals: "Refused logins", "被拒绝的登录";
    refusals_hour: "in the last hour", "（最近一小时）";
    plot_says: "{0} in the last hour, at most {1} a minute", "最近一小时共 {0}，每分钟最多 {1}";
    most_a_minute: "at most {} a minute", "每分钟最多 {}";
    busiest: "Busiest apps", "最繁忙的应用";
    no_traffic: "No app has sealed or opened anything in the last hour.", "最近一小时没有应用加密或解密消息。";
    minute_late: "Gateways tell of a minute when it is over.", "网关在每分钟结束后上报。";
    traffic_cut: "There were more records than are read here: the oldest minutes are left out.", "记录过多，未包含最早的几分钟。";

    // Keys
    new_key: "New key", "新建密钥";
    make_key: "Make the key", "创建密钥";
    search_keys: "Part of a name", "名称的一部分";
    all_keys: "All keys", "全部密钥";
    no_keys: "There are no keys yet.", "还没有密钥。";
    no_keys_here: "There is no key on this page.", "这一页没有密钥。";
    no_keys_do: "Make the first one, then an app that may use it.", "先创建一个密钥，再创建可使用它的应用。";
    no_keys_ask: "A key-admin makes the first one.", "由 key-admin 创建第一个密钥。";
    none_found: "Nothing is called like “{}”.", "没有名称类似“{}”的条目。";
    search_cut: "There may be more: give more of the name.", "可能还有更多：请输入更完整的名称。";
    from_first: "From the first", "回到第一页";
    next_page: "Next page", "下一页";
    index: "Index", "索引";
    suite: "Suite", "算法套件";
    suites: "Suites", "算法套件";
    suite_of_site: "As the site is set", "按站点默认设置";
    seals_with: "Seals with", "加密版本";
    seals_nothing: "seals nothing", "不能加密";
    sensitive: "Sensitive", "敏感";
    context_required: "A context is required", "必须提供上下文";
    context_required_means: "Every message is bound to a context, the conversation say: without one, nothing is sealed.", "每条消息都须绑定一个上下文（例如会话），否则不予加密。";
    deletion_allowed: "Apps may have it deleted", "允许应用删除";
    deletion_allowed_means: "Apps with the grant manage may disable the whole key at once, and ask for its destruction: an operator approves that, or enables the key again.", "拥有 manage 授权的应用可立即停用整个密钥并申请销毁：由操作员批准，或重新启用该密钥。";
    sensitive_means: "Granting DEC on it takes two persons, and each opened message is on record.", "授予 DEC 权限须两人批准，且每次解密都会记录。";
    key_name_rules: "1 to 128 bytes, in any language; no spaces, no * and no >, and not digits alone. It cannot be changed later.", "1 到 128 字节，任何语言均可；不含空格、* 和 >，且不能全是数字。之后不能更改。";
    key_made: "The key was made.", "密钥已创建。";
    key_was_there: "A key of this name is there already: nothing was made or changed", "同名密钥已存在：未创建也未更改任何内容";
    key_rotated: "The key has a new version, which seals from now on.", "密钥已有新版本，此后用它加密。";
    key_changed: "Done.", "已完成。";
    called_off: "The destruction is called off. The version is disabled: enable it, and it opens again.", "销毁已取消。该版本处于停用状态：启用后可再次解密。";
    key_set: "The settings were saved.", "设置已保存。";
    rotate: "Rotate", "轮换";
    active: "Active", "启用";
    decrypt_only: "Opens only", "仅解密";
    disabled: "Disabled", "停用";
    destroy_scheduled: "To be destroyed", "待销毁";
    destroyed: "Destroyed", "已销毁";
    wrapped: "Wrapped key", "封装后的密钥";
    wrapped_means: "Keys are shown only wrapped: without the root key nobody gets at what is inside.", "密钥只以封装形式显示：没有根密钥，谁也无法取得其内容。";
    erased: "erased", "已抹除";
    lowest_enc: "Lowest version that seals", "可加密的最低版本";
    lowest_dec: "Lowest version that opens", "可解密的最低版本";
    renews: "Renews itself", "自动轮换";
    renew_days: "Renews itself after days", "自动轮换周期（天）";
    days_are_a_number: "Days are a number", "天数必须是数字";
    used_of: "{0} messages, {1} % of its limit", "{0} 条消息，上限的 {1} %";
    who_uses: "Who may use it", "谁可使用";
    nobody_uses: "No app has a grant on it: make one, or it seals nothing for anybody.", "没有应用获得授权：请创建应用，否则无人可用它加密。";
    type_name_to_raise: "To raise what opens, type the key's name: versions below open nothing any more", "提高可解密的最低版本时，请输入密钥名称：更低的版本将不能再解密";
    close: "Close", "停止加密";
    disable: "Disable", "停用";
    enable: "Enable", "启用";
    destroy: "Destroy", "销毁";
    cancel_destroy: "Call it off", "取消销毁";
    disable_all: "Disable all", "全部停用";
    destroy_all: "Destroy all", "全部销毁";
    destroy_version_of: "Destroy version {0} of “{1}”?", "销毁“{1}”的版本 {0}？";
    destroy_key: "Destroy every version of “{}”?", "销毁“{}”的所有版本？";
    disable_version_of: "Disable version {0} of “{1}”?", "停用“{1}”的版本 {0}？";
    disable_key: "Disable every version of “{}”?", "停用“{}”的所有版本？";
    close_version_of: "Have version {0} of “{1}” seal nothing more?", "让“{1}”的版本 {0} 不再加密？";
    destroy_consequence: "Every message that was sealed with it becomes unreadable, for everybody and for ever. Nobody can bring it back: not you, not the custodians, not Sealwire.", "用它加密的所有消息将永远无法读取，对任何人都是如此。无人能恢复：您不能，保管人不能，Sealwire 也不能。";
    disable_consequence: "From within a second on, no message that was sealed with it can be read, until it is enabled again.", "一秒之内，用它加密的消息都将无法读取，直到重新启用。";
    close_consequence: "It seals no new message. What it has sealed stays readable.", "它不再加密新消息。已加密的消息仍可读取。";
    sealed_since: "sealed messages from", "加密消息自";
    sealed_until: "to", "至";
    sealed_until_now: "to this day", "至今";
    at_most_messages: "at most {} messages", "最多 {} 条消息";
    openers_lose: "Apps that can read these messages now, and will not:", "现在可读、之后将不可读这些消息的应用：";
    no_app: "none", "无";
    destroy_waits: "It is done at the earliest {} after it was approved, and can be called off until then; meanwhile these versions open nothing.", "批准后至少经过 {} 才会执行，在此之前可以取消；其间这些版本不能解密。";
    destroy_two: "A second person must approve it.", "必须由第二人审批。";
    destroy_backups: "Backups and exports of the database still hold the wrapped key until they are deleted, too.", "数据库的备份和导出中仍含封装后的密钥，直到它们也被删除。";
    disable_back: "It can be enabled again at any time.", "可随时重新启用。";
    close_back: "The newest version can seal again once it is enabled.", "最新版本重新启用后可再次加密。";
    still_seals: "It still seals: rotate the key, or disable the version, before it can be destroyed.", "它仍在加密：请先轮换密钥或停用该版本，然后才能销毁。";
    wait_days: "Days until then", "等待天数";
    ask_destroy: "Ask for destruction", "申请销毁";
    type_name: "Type the key's name, “{}”, to go on", "输入密钥名称“{}”以继续";
    destruction_scheduled: "The destruction is scheduled.", "已安排销毁。";

    // Apps
    app: "App", "应用";
    new_app: "New app", "新建应用";
    make_app: "Make the app", "创建应用";
    search_apps: "Part of a name or AppKey", "名称或 AppKey 的一部分";
    all_apps: "All apps", "全部应用";
    no_apps: "There are no apps yet.", "还没有应用。";
    no_apps_do: "An app is a business system that may log in: make one for each IM gateway.", "应用是可以登录的业务系统：请为每个 IM 网关创建一个。";
    no_apps_ask: "An app-admin makes the first one.", "由 app-admin 创建第一个应用。";
    grants: "Grants", "授权";
    no_grants: "none", "无";
    no_grants_means: "None: it may log in, and do nothing.", "无：可以登录，但不能做任何事。";
    grant_rules: "One a line: operations (enc, dec, reenc, genkey, datakey, manage), a colon, and a key's name, a beginning with *, or * for all. reenc:a>b seals again from key a under key b.", "每行一条：操作（enc、dec、reenc、genkey、datakey、manage）、冒号，然后是密钥名称、以 * 结尾的前缀，或表示全部的 *。reenc:a>b 表示从密钥 a 转加密到密钥 b。";
    allow_list: "Allow-list", "IP 白名单";
    allow_rules: "One network or address a line. Nobody gets in from elsewhere; with an empty list, nobody at all.", "每行一个网段或地址。其他地址一律拒绝；列表为空则全部拒绝。";
    no_allow_means: "Empty: it can log in from nowhere.", "为空：无法从任何地址登录。";
    nowhere: "nowhere", "无";
    would_address: "Would this address be let in?", "这个地址会被放行吗？";
    check: "Check", "检查";
    let_in: "{} is let in.", "{} 会被放行。";
    not_let_in: "{} is not on the list, and is refused.", "{} 不在名单上，会被拒绝。";
    on_list_but_disabled: "The address is on the list, but the app is disabled.", "地址在名单上，但应用已停用。";
    no_address: "“{}” is not an address.", "“{}”不是有效的地址。";
    last_seen: "Last seen", "最近登录";
    never_seen: "never", "从未";
    never_seen_means: "It has never logged in, as far as the records go back.", "在现有记录中从未登录。";
    not_lately: "not among the newest records", "不在最近的记录中";
    not_lately_means: "It is not among the newest logins: it may have logged in before, and be connected still.", "不在最近的登录中：可能更早登录过，且仍保持连接。";
    last_logins: "Last logins", "最近的登录";
    last_refused: "Last refused logins", "最近被拒绝的登录";
    none_refused: "None was refused.", "没有被拒绝的登录。";
    none_refused_lately: "None among the newest records.", "最近的记录中没有。";
    why_proof: "unknown AppKey, wrong secret, or disabled", "AppKey 未知、AppSecret 错误或已停用";
    why_address: "the address is not on the allow-list", "地址不在 IP 白名单上";
    over_http: "It may also come over HTTP", "也可通过 HTTP 接入";
    over_http_means: "It gets a second secret for that. Unlike the AppSecret, this one passes through the gateway when the app logs in.", "为此另发一个密钥。与 AppSecret 不同，应用登录时该密钥会经过网关。";
    http_secret: "HTTP secret", "HTTP 登录密钥";
    rotate_http: "The HTTP secret instead: the first one lets the app come over HTTP", "改为更换 HTTP 登录密钥：首次生成后，应用即可通过 HTTP 接入";
    rotate_secret: "New secret", "更换 AppSecret";
    set_permissions: "Set permissions", "修改权限";
    set_app: "What may “{}” do, and from where?", "“{}”可以做什么、从哪里登录？";
    set_app_means: "Its connections end within a second, and it logs in again under what is set here. What opens doors takes a second person.", "其连接在一秒内断开，并按此处设置重新登录。放宽权限的更改须由第二人审批。";
    disable_app: "Disable “{}”?", "停用“{}”？";
    disable_app_means: "Its connections end within a second, and it cannot log in: whatever it serves stops sealing and opening messages. It can be enabled again.", "其连接在一秒内断开，且不能登录：依赖它的业务将停止加解密消息。可以重新启用。";
    rotate_secret_of: "Give “{}” a new secret?", "为“{}”更换 AppSecret？";
    rotate_secret_means: "The new secret is shown once. The one of before is taken for the hours below: put the new one in place within that time, or the app is locked out.", "新的 AppSecret 只显示一次。旧的在下面的小时数内仍然有效：请在此期间换上新的，否则应用将无法登录。";
    overlap_hours: "Hours for which the secret of before is taken", "旧 AppSecret 仍有效的小时数";
    overlap: "The secret of before is taken for", "旧 AppSecret 仍有效";
    drop_older: "Drop a still older secret at once", "立即作废更早的 AppSecret";
    type_app_name: "Type the app's name, “{}”, to go on", "输入应用名称“{}”以继续";
    app_enabled: "The app may log in again.", "应用可以重新登录。";
    app_disabled: "The app is disabled.", "应用已停用。";
    app_set: "The permissions are set.", "权限已设置。";
    secret_of: "The secret of “{}”", "“{}”的 AppSecret";
    secret_once: "This is the only time it is shown.", "仅此一次显示。";
    secret_once_means: "Put it into the app's secret store now. Nobody can look it up later; a lost one is replaced by a new one.", "请立即存入应用的机密存储。之后无人能查看；丢失只能更换新的。";
    secret_kept: "It is kept: go on", "已保存，继续";

    // Approvals
    wait_for_approval: "Waiting", "等待处理";
    nothing_waits: "Nothing waits.", "没有待审批的请求。";
    nothing_waits_means: "What cannot be undone, or opens doors, appears here when somebody asks for it.", "不可撤销或放宽权限的操作在有人申请时会出现在这里。";
    two_persons_are_off: "Two-person control is off: everything is done at once, by one person.", "双人控制已关闭：一切由一人立即执行。";
    decided: "Decided", "已处理";
    asked: "Asked by", "申请人";
    asked_by: "Asked by {}", "申请人 {}";
    asked_for: "Asked for. Another operator must approve it.", "已提交申请，必须由另一位操作员审批。";
    decided_by: "Decided by", "审批人";
    approved_by_role: "May be approved by", "可审批的角色";
    pending: "Waiting", "等待中";
    approved: "Approved", "已批准";
    done: "Done", "已执行";
    refused: "Refused", "已拒绝";
    expired: "Expired", "已过期";
    approve: "Approve", "批准";
    refuse: "Refuse", "拒绝";
    take_back: "Take it back", "撤回";
    another_must: "You have asked for it: another operator must approve it.", "这是您的申请：必须由另一位操作员审批。";
    not_yours: "Your roles do not decide about this.", "您的角色无权决定此请求。";
    approved_go_on: "It is approved. It shows a secret, so you do it yourself: the form is filled in.", "已批准。因会显示 AppSecret，须由您亲自执行：表单已填好。";
    approved_not_done: "It was approved, and is not done yet: an earlier try did not succeed.", "已批准但尚未执行：之前的尝试未成功。";
    do_it: "Do it now", "立即执行";
    go_on: "Go on", "继续";
    type_name_of: "Type the name, “{}”, to approve", "输入名称“{}”以批准";
    be_sure_person: "Who has asked knows the password. Be sure that there is such a person.", "申请人知道该密码。请确认确有其人。";
    asker_sees_secret: "Who has asked sees the secret once it is approved.", "批准后，申请人将看到 AppSecret。";
    as_approved: "This was approved, and is done just so. With another content it is asked for anew.", "此操作已获批准，将按原样执行。更改内容则须重新申请。";
    request_approved: "Approved.", "已批准。";
    request_refused: "Refused.", "已拒绝。";
    wish_destroy_version: "Destroy version {0} of key “{1}”, {2} after the approval", "销毁密钥“{1}”的版本 {0}（批准后满 {2}执行）";
    wish_trim: "Destroy the versions below {0} of key “{1}”, {2} after the approval", "在批准 {2} 后销毁密钥“{1}”中低于 {0} 的版本";
    wish_destroy_key: "Destroy every version of key “{0}”, {1} after the approval", "销毁密钥“{0}”的所有版本（批准后满 {1}执行）";
    wish_unmark: "Key “{}” is sensitive no longer", "密钥“{}”不再标为敏感";
    wish_app: "Make app “{}”", "创建应用“{}”";
    wish_set_app: "Give app “{}” other permissions", "修改应用“{}”的权限";
    wish_secret: "Give app “{0}” a new secret; the one of before is taken for {1}", "为应用“{0}”更换 AppSecret；旧的 {1} 内仍有效";
    wish_enable_operator: "Let operator “{}” sign in again", "允许操作员“{}”重新登录";
    wish_operator: "Make operator “{0}”: {1}", "创建操作员“{0}”：{1}";
    wish_roles: "Give operator “{0}” the roles {1}", "将操作员“{0}”的角色改为 {1}";
    wish_password: "Give operator “{}” another password", "重置操作员“{}”的密码";
    wish_policy: "{0}; a destruction waits {1}", "{0}；销毁等待 {1}";
    two_persons_on: "Two persons are needed", "需要双人控制";
    two_persons_off: "Two persons are needed no longer", "不再需要双人控制";

    // Audit
    chains: "Chains", "哈希链";
    check_all: "Check all chains", "校验所有链";
    never_checked: "Not checked since the manager was started.", "管理服务启动以来尚未校验。";
    check_runs: "{} checks.", "{} 正在校验。";
    records_of: "{0} of {1} records", "{1} 条记录中的 {0} 条";
    chains_whole: "Every chain is whole.", "所有链完整无缺。";
    chains_found: "{0} records in {1} chains.", "{1} 条链，共 {0} 条记录。";
    chains_broken: "What is wrong: {}", "发现问题：{}";
    checked_by: "Checked by {}:", "校验人 {}：";
    check_failed: "The check could not go on", "校验未能完成";
    chains_there: "Chains there are: {}", "现有链：{}";
    writer: "Writer", "写入者";
    records: "Records", "记录";
    heads_hint: "Heads that are kept outside the database also tell whether newest records were cut off:", "保存在数据库之外的链头还能揭示最新记录是否被截断：";
    event: "Event", "事件";
    about: "About", "涉及对象";
    about_what: "A name, an id, an address", "名称、编号或地址";
    from_day: "From (UTC)", "起始日（UTC）";
    until_day: "To (UTC)", "截止日（UTC）";
    filter: "Filter", "筛选";
    from_where: "From", "来源";
    no_records: "No record is like that.", "没有符合条件的记录。";
    no_records_do: "Ask for less: another event, or more days.", "请放宽条件：换一种事件或扩大日期范围。";
    not_genuine: "Forged", "伪造";
    newest: "Newest", "最新";
    older: "Older", "更早";
    event_changed: "Change", "更改";
    event_done: "Act", "操作";
    event_logged_in: "Login", "登录";
    event_login_refused: "Refused login", "登录被拒";
    event_logins_refused: "Refused logins, counted", "登录被拒计数";
    event_opened: "Sensitive message opened", "解密敏感消息";
    event_used: "Use, counted", "用量计数";
    event_ceremony: "Ceremony", "密钥仪式";
    event_started: "Start", "启动";
    event_lost: "Lost notes", "丢失的记录";
    event_heads: "Heads", "链头";
    event_unknown: "Unknown", "未知";

    // Operators
    new_operator: "New operator", "新建操作员";
    make_operator: "Make the operator", "创建操作员";
    first_password: "First password", "初始密码";
    first_password_means: "They must change it when they sign in first.", "首次登录时必须修改。";
    password_since: "Password set", "密码设定时间";
    password_foreign: "to be changed", "待修改";
    only_you: "There is only one operator.", "只有一位操作员。";
    only_you_do: "Make a second root-officer: what takes two persons is possible from then on, and nobody is locked out when one of them leaves.", "请创建第二位 root-officer：此后才能进行双人操作，且一人离开时不致无人可用。";
    signed_in_from: "Signed in from", "登录来源";
    not_signed_in: "not signed in at this manager", "未在此管理服务登录";
    no_tokens: "No tokens.", "没有令牌。";
    revoke: "Revoke", "吊销";
    token_revoked: "The token was revoked.", "令牌已吊销。";
    set_roles: "Set the roles", "设置角色";
    reset_password: "Reset the password", "重置密码";
    reset_password_means: "They are signed out, lose their tokens, and must change it when they sign in.", "对方将被退出登录、失去令牌，并须在登录时修改密码。";
    disable_operator_means: "They are signed out at once, and cannot sign in.", "对方立即被退出登录，且不能再登录。";
    type_operator_name: "Type the operator's name, “{}”, to go on", "输入操作员名称“{}”以继续";
    operator_made: "The operator was made.", "操作员已创建。";
    operator_changed: "Done.", "已完成。";

    // Root key
    engines: "Engines", "加密引擎";
    engine: "Engine", "加密引擎";
    foreign_root: "Another root key", "根密钥不同";
    since: "Since", "起始时间";
    root_key_id: "Root key", "根密钥编号";
    software: "Version", "软件版本";
    in_this_process: "in this process", "本进程内";
    keystore_up: "up, revision {}", "正常，修订号 {}";
    manager: "manager", "管理服务";
    rotation: "Root rotation", "根密钥轮换";
    rotation_none: "None is under way.", "没有进行中的轮换。";
    rotation_waiting: "The ceremony was cut off: a root-officer goes on with it on the command line.", "仪式中断：请 root-officer 在命令行继续。";
    rotation_moving: "What is wrapped under the old root key is being moved.", "正在迁移由旧根密钥封装的内容。";
    rotation_stuck: "Some rows cannot be moved: put them right, or leave them behind.", "部分记录无法迁移：请修复，或予以舍弃。";
    rotation_done: "Done: the engines keep the old root key no longer.", "已完成：引擎已不再保存旧根密钥。";
    moved_of: "{0} of {1} moved", "已迁移 {0} / {1}";
    ceremonies: "Ceremonies", "密钥仪式";
    ceremonies_where: "They take key cards, and happen at an engine, never over a network:", "需要密钥卡，只能在加密引擎上进行，不经过网络：";
    unseal: "Unseal", "解封";
    seal_it: "Seal", "封存";
    new_root_key: "A new root key", "更换根密钥";
    new_cards: "New cards for the same root key", "为同一根密钥更换密钥卡";
    policy: "Policy", "策略";
    policy_set: "The policy is set.", "策略已设置。";
    two_persons: "Two persons", "双人控制";
    two_persons_means: "What cannot be undone, or opens doors, is asked for by one and approved by another. Switching it off takes two itself.", "不可撤销或放宽权限的操作由一人申请、另一人审批。关闭此项本身也须两人。";
    destroy_wait: "A destruction waits", "销毁等待";
    destroy_wait_days: "Days that a destruction waits (less takes two persons)", "销毁等待天数（缩短须两人批准）";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_say_the_same_things() {
        let places = |text: &str| text.matches('{').count();
        for (name, english, chinese) in ALL {
            assert!(!english.is_empty() && !chinese.is_empty(), "{name}");
            assert_eq!(places(english), places(chinese), "{name}");
            let han = chinese.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
            assert!(han, "{name}: {chinese}");
        }
    }
}
