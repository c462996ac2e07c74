//! The vocabulary: workflows, tools, services, people. Data only; the order decides what a seed gives.

/// A workflow that a command leads to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) command: &'static str,
    pub(super) nodes: &'static [PlannedNode],
}

/// A node, and by position the nodes that must be done before.
#[derive(Debug)]
pub(super) struct PlannedNode {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) kind: &'static Kind,
    pub(super) after: &'static [usize],
}

/// How tasks of a kind go.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) thinking_ms: u64,
    pub(super) tools: &'static [Tool],
}

/// A tool, what it is given, and how long it usually takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) argument: &'static str,
    pub(super) values: &'static [&'static str],
    pub(super) millis: u64,
}

const fn tool(name: &'static str, argument: &'static str, values: &'static [&'static str], millis: u64) -> Tool {
    Tool { name, argument, values, millis }
}

const RESEARCH: Kind = Kind {
    name: "research",
    thinking_ms: 260,
    tools: &[
        tool("web_search", "query", &["vector index benchmarks", "release notes", "pricing of competitors"], 620),
        tool("fetch_page", "url", &["https://docs.example.com/guide", "https://blog.example.org/2026/11"], 340),
        tool("read_pdf", "path", &["papers/survey.pdf", "papers/evaluation.pdf"], 780),
    ],
};
const DATA: Kind = Kind {
    name: "data",
    thinking_ms: 160,
    tools: &[
        tool(
            "sql_query",
            "query",
            &["select count(*) from orders", "select day, sum(total) from sales group by day"],
            240,
        ),
        tool("load_table", "table", &["orders", "customers", "tickets"], 410),
        tool("plot_chart", "kind", &["line", "bar", "histogram"], 190),
    ],
};
const CODE: Kind = Kind {
    name: "code",
    thinking_ms: 380,
    tools: &[
        tool("read_file", "path", &["src/main.rs", "src/parser.rs", "README.md"], 25),
        tool("apply_patch", "path", &["src/parser.rs", "tests/parser.rs"], 60),
        tool("run_tests", "filter", &["parser", "all"], 1_400),
    ],
};
const WRITE: Kind = Kind {
    name: "write",
    thinking_ms: 450,
    tools: &[
        tool("draft_text", "section", &["introduction", "findings", "next steps"], 900),
        tool("check_grammar", "language", &["en", "de"], 150),
    ],
};
const NOTIFY: Kind = Kind {
    name: "notify",
    thinking_ms: 60,
    tools: &[
        tool("post_message", "channel", &["#reports", "#support", "#releases"], 130),
        tool("send_mail", "list", &["team", "on-call"], 210),
    ],
};

const fn node(name: &'static str, title: &'static str, kind: &'static Kind, after: &'static [usize]) -> PlannedNode {
    PlannedNode { name, title, kind, after }
}

pub(super) const PLANS: &[Plan] = &[
    Plan {
        name: "market-report",
        command: "report on \"vector databases\" since 30d format=pdf",
        nodes: &[
            node("search", "Find sources", &RESEARCH, &[]),
            node("figures", "Collect the figures", &DATA, &[]),
            node("read", "Read the sources", &RESEARCH, &[0]),
            node("draft", "Write the report", &WRITE, &[1, 2]),
            node("publish", "Publish the report", &NOTIFY, &[3]),
        ],
    },
    Plan {
        name: "fix-issue",
        command: "fix issue 1874 in parser with tests",
        nodes: &[
            node("reproduce", "Reproduce the failure", &CODE, &[]),
            node("patch", "Write the patch", &CODE, &[0]),
            node("review", "Review the patch", &CODE, &[1]),
            node("announce", "Announce the fix", &NOTIFY, &[2]),
        ],
    },
    Plan {
        name: "daily-sales",
        command: "summarize sales of yesterday by region",
        nodes: &[
            node("extract", "Extract the orders", &DATA, &[]),
            node("aggregate", "Sum up by region", &DATA, &[0]),
            node("chart", "Draw the charts", &DATA, &[1]),
            node("summary", "Write the summary", &WRITE, &[1]),
            node("send", "Send it round", &NOTIFY, &[2, 3]),
        ],
    },
    Plan {
        name: "support-triage",
        command: "triage tickets where status = new limit 50",
        nodes: &[
            node("load", "Load the tickets", &DATA, &[]),
            node("classify", "Classify the tickets", &WRITE, &[0]),
            node("escalate", "Escalate what is urgent", &NOTIFY, &[1]),
        ],
    },
    Plan {
        name: "compare-suppliers",
        command: "compare suppliers [\"north\", \"south\", \"east\"] by price, delivery",
        nodes: &[
            node("north", "Look at supplier north", &RESEARCH, &[]),
            node("south", "Look at supplier south", &RESEARCH, &[]),
            node("east", "Look at supplier east", &RESEARCH, &[]),
            node("table", "Set up the table", &DATA, &[0, 1, 2]),
            node("advice", "Write the advice", &WRITE, &[3]),
        ],
    },
];

/// Codes and messages of what goes wrong with tools.
pub(super) const TOOL_ERRORS: &[(&str, &str)] = &[
    ("timeout", "no answer within 5000 ms"),
    ("rate_limited", "429 Too Many Requests, retry after 30 s"),
    ("not_found", "404 for the address given"),
    ("invalid_output", "expected JSON, found HTML"),
    ("exit_code", "the process ended with exit code 101"),
];

pub(super) const SERVICES: &[&str] = &["gateway", "auth", "billing", "indexer", "scheduler", "mailer"];

pub(super) const USERS: &[&str] = &["ada", "grace", "edsger", "barbara", "ken", "radia", "tony"];

/// Names and skills of peers.
pub(super) const PEERS: &[(&str, &str)] = &[
    ("Babel", "translate"),
    ("Lens", "describe_image"),
    ("Abacus", "forecast"),
    ("Scribe", "transcribe"),
    ("Atlas", "geocode"),
];

pub(super) const PHRASES: &[&str] = &[
    "Where is the nearest station?",
    "Quarterly figures, region north",
    "The delivery is two days late.",
    "Grüße aus Zürich",
    "明日の会議は十時です",
];
