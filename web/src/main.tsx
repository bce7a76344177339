import { render } from "preact";
import { App } from "./app";
import "./app.css";
import { findJobs } from "./state/jobs";
import { listenForKeys } from "./state/keys";
import { showExample } from "./state/first";
import { refresh } from "./state/server";

void refresh();
findJobs().catch(() => undefined); // a server without jobs, or none: the page says so where it matters
listenForKeys();
showExample();
render(<App />, document.getElementById("app")!);
