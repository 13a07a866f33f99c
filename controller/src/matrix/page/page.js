"use strict";
// Names come from the input. They are written with textContent alone, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const GLYPHS = { allow: "●", some: "◐", deny: "·", "no-family": "–" };
  // Columns up to which ports fit into the cells.
  const COMFORTABLE = 20;

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // Ends.

  const ends = data.ends.map((end, index) => ({
    ...end,
    index,
    place: end.kind === "pods" ? "n:" + end.namespace : end.kind,
    words: [end.name, ...end.members, ...(end.workloads || []).map((workload) => end.namespace + "/" + workload.name)]
      .join("\n").toLowerCase(),
  }));
  const every = (test) => ends.filter(test).map((end) => end.index);
  const allSources = every((end) => data.rows[end.index].some((cell) => cell >= 0));
  const allDestinations = every((end) => data.rows.some((row) => row[end.index] >= 0));

  function plural(count, one, many) {
    return count + " " + (count === 1 ? one : many);
  }

  function summary() {
    const members = (kind) => ends.filter((end) => end.kind === kind).reduce((sum, end) => sum + end.members.length, 0);
    const namespaces = new Set(ends.filter((end) => end.kind === "pods").map((end) => end.namespace));
    const groups = ends.filter((end) => end.kind === "pods").length;
    const text = plural(members("pods"), "pod", "pods") + " in " + plural(namespaces.size, "namespace", "namespaces") +
      (groups < members("pods") ? ", folded into " + plural(groups, "row", "rows") + " of equal reach" : "") + "; " +
      plural(members("nodes"), "node", "nodes") + ". A row is a source, a column a destination.";
    return data.port ? text + " Only " + data.port + " was asked about." : text;
  }

  // Ports.

  function parsePort(text) {
    const clean = text.trim().toLowerCase();
    if (clean === "") return null;
    if (clean === "icmp") return { protocol: "ICMP", name: "ICMP" };
    const parts = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(clean);
    const number = parts ? Number(parts[1]) : 0;
    if (number < 1 || number > 65535) throw new Error("Write a port as 5432, 53/udp or icmp.");
    const protocol = (parts[2] || "tcp").toUpperCase();
    return { protocol, number, name: protocol + " " + number };
  }

  function holds(allowed, port) {
    const ranges = allowed[port.protocol];
    if (port.protocol === "ICMP" || !ranges) return Boolean(ranges);
    return ranges.some((range) => {
      const [first, last] = range.split("-").map(Number);
      return first <= port.number && port.number <= (last === undefined ? first : last);
    });
  }

  function verdict(cell, port) {
    if (!port || cell.ways.length === 0) return cell.verdict;
    const passing = cell.ways.filter((way) => holds(way.allowed, port)).length;
    return passing === cell.ways.length ? "allow" : passing === 0 ? "deny" : "some";
  }

  function wayText(way, port) {
    if (port) return holds(way.allowed, port) ? port.name + " may pass" : port.name + " may not pass";
    if (data.port) return way.text === "nothing" ? data.port + " may not pass" : data.port + " may pass";
    if (way.text === "everything") return "Everything may pass";
    return way.text === "nothing" ? "Nothing may pass" : "Only " + way.text + " may pass";
  }

  // What a cell says where there is room.
  function lines(cell, port) {
    const result = verdict(cell, port);
    if (port || data.port || result !== "some") return [GLYPHS[result]];
    if (cell.ways.length > 1) {
      return cell.ways.map((way) => way.families.join() + " " + (way.text === "everything" ? "●" : way.text === "nothing" ? "·" : "◐"));
    }
    const parts = cell.ways[0].text.split("; ");
    const [protocol, ...ports] = parts[0].split(" ");
    if (parts.length === 1 && parts[0].length > 10 && ports.length > 0) return [protocol, ports.join(" ")];
    if (parts.length > 2) return [parts[0], "and " + (parts.length - 1) + " more"];
    return parts;
  }

  // Filters.

  let state = { port: null, sources: [], destinations: [], found: null };

  function filters() {
    let port = null;
    at("port-error").textContent = "";
    at("port").removeAttribute("aria-invalid");
    try {
      port = parsePort(at("port").value);
    } catch (error) {
      at("port-error").textContent = error.message;
      at("port").setAttribute("aria-invalid", "true");
    }
    const terms = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = terms.length === 0 ? null
      : new Set(every((end) => terms.every((term) => end.words.includes(term))));
    const of = (all, place) => all.filter((index) => !place || ends[index].place === place);
    let sources = of(allSources, at("from").value);
    let destinations = of(allDestinations, at("to").value);
    const passes = (from, to) => {
      const number = data.rows[from][to];
      return number >= 0 && ["allow", "some"].includes(verdict(data.cells[number], port));
    };
    // Whom a search finds, and who has to do with them.
    if (found) {
      const [from, to] = [sources, destinations];
      const [foundFrom, foundTo] = [from.filter((end) => found.has(end)), to.filter((end) => found.has(end))];
      sources = from.filter((end) => found.has(end) || foundTo.some((other) => passes(end, other)));
      destinations = to.filter((end) => found.has(end) || foundFrom.some((other) => passes(other, end)));
    }
    // Who has to do with a port.
    if (port) {
      const touches = (from, to) => passes(from, to) && (!found || found.has(from) || found.has(to));
      const [from, to] = [sources, destinations];
      sources = from.filter((end) => to.some((other) => touches(end, other)));
      destinations = to.filter((end) => from.some((other) => touches(other, end)));
    }
    return { port, found, sources, destinations };
  }

  // The table.

  function head(end) {
    const div = element("div");
    if (end.namespace) {
      div.append(element("span", end.namespace + "/", "namespace"), end.name.slice(end.namespace.length + 1));
    } else {
      div.textContent = end.name;
    }
    div.title = end.name;
    return div;
  }

  function isEdge(list, position) {
    return position > 0 && ends[list[position]].place !== ends[list[position - 1]].place;
  }

  function row(from, position, counts) {
    const { sources, destinations, port, found } = state;
    const dense = destinations.length > COMFORTABLE;
    const tr = element("tr");
    if (isEdge(sources, position)) tr.className = "edge";
    const th = element("th");
    th.scope = "row";
    th.append(head(ends[from]));
    tr.append(th);
    destinations.forEach((to, column) => {
      const number = data.rows[from][to];
      const td = element("td");
      const cell = data.cells[number];
      const result = cell ? verdict(cell, port) : "blank";
      td.className = result;
      if (isEdge(destinations, column)) td.classList.add("edge");
      if (found && !found.has(from) && !found.has(to)) td.classList.add("apart");
      td.dataset.from = from;
      td.dataset.to = to;
      if (cell) {
        counts[result] += 1;
        td.setAttribute("aria-label", cell.ways.map((way) => wayText(way, port)).join("; ") || "no family in common");
        if (dense) td.textContent = GLYPHS[result];
        else td.append(...lines(cell, port).map((line) => element("div", line)));
      }
      tr.append(td);
    });
    return tr;
  }

  function render() {
    state = filters();
    const { sources, destinations, port } = state;
    legend(port);
    const table = at("matrix");
    const isEmpty = sources.length === 0 || destinations.length === 0;
    table.querySelectorAll("thead, tbody").forEach((part) => part.remove());
    table.hidden = isEmpty;
    at("empty").hidden = !isEmpty;
    table.classList.toggle("dense", destinations.length > COMFORTABLE);
    const counts = { allow: 0, some: 0, deny: 0, "no-family": 0 };
    if (!isEmpty) {
      const thead = element("thead");
      const top = element("tr");
      const corner = element("th", "from ↓   to →", "corner");
      top.append(corner);
      destinations.forEach((to, column) => {
        const th = element("th");
        th.scope = "col";
        th.dataset.to = to;
        if (isEdge(destinations, column)) th.className = "edge";
        th.append(head(ends[to]));
        top.append(th);
      });
      thead.append(top);
      const tbody = element("tbody");
      sources.forEach((from, position) => tbody.append(row(from, position, counts)));
      table.append(thead, tbody);
      const first = tbody.querySelector("td");
      first.tabIndex = 0;
    }
    const pairs = port || data.port
      ? plural(counts.allow + counts.some, "pair", "pairs") + " may use " + (port ? port.name : data.port)
      : counts.allow + " pass everything, " + counts.some + " some, " + counts.deny + " nothing";
    at("count").textContent = sources.length + " of " + plural(allSources.length, "source", "sources") + ", " +
      destinations.length + " of " + plural(allDestinations.length, "destination", "destinations") + ": " + pairs;
    pinned = null;
    current = null;
    explain(null);
  }

  // Why.

  function sentence(side, direction) {
    const [subject, other] = direction === "egress" ? ["The source", "the destination"] : ["The destination", "the source"];
    switch (side.reason) {
      case "not-a-pod": return "Allowed: " + subject.toLowerCase() + " is no pod that policies select.";
      case "self": return "Allowed: a pod may always reach itself.";
      case "not-isolated": return "Allowed: no policy isolates " + subject.toLowerCase() + " for " + direction + ".";
      case "own-node": return "Allowed: " + other + " is the pod's own node.";
      case "rule-matches": return subject + " is isolated, and rules allow:";
      default: return "Denied: " + subject.toLowerCase() + " is isolated and no rule allows " + other + ".";
    }
  }

  function sideParts(side, direction) {
    const parts = [element("h3", direction === "egress" ? "Egress, the source's side" : "Ingress, the destination's side")];
    parts.push(element("p", sentence(side, direction)));
    if (side.grants.length > 0) {
      const list = element("ul");
      side.grants.forEach(([policy, text]) => list.append(element("li", policy + ": " + text)));
      parts.push(list);
    }
    if (side.isolated_by.length > 0) {
      parts.push(element("p", "Isolated by " + side.isolated_by.join(", "), "quiet"));
    }
    return parts;
  }

  function memberParts(end, title) {
    const SHOWN = 6;
    if (end.kind === "outside" || (end.members.length === 1 && end.name === end.members[0])) return [];
    const more = end.members.length - SHOWN;
    const text = end.members.slice(0, SHOWN).join(", ") + (more > 0 ? " and " + more + " more" : "");
    return [element("h3", title), element("p", text, "quiet")];
  }

  function explain(td) {
    const why = at("why");
    if (!td) {
      const text = "Point at a cell, tap it or move there with the arrow keys: here stands what may pass, and which policies say so.";
      why.replaceChildren(element("p", text, "quiet"));
      return;
    }
    const [from, to] = [ends[td.dataset.from], ends[td.dataset.to]];
    const cell = data.cells[data.rows[from.index][to.index]];
    const parts = [element("h2", from.name + " → " + to.name)];
    if (!cell) {
      const text = from.kind !== "pods" && to.kind !== "pods"
        ? "Neither end is a pod: no policy has a say."
        : "One pod alone: it may always reach itself.";
      parts.push(element("p", text));
    } else if (cell.ways.length === 0) {
      parts.push(element("p", "The two have no address family in common."));
    }
    (cell ? cell.ways : []).forEach((way) => {
      if (cell.ways.length > 1) parts.push(element("h3", way.families.join(" and ")));
      const result = verdict({ ways: [way], verdict: way.text === "everything" ? "allow" : way.text === "nothing" ? "deny" : data.port ? "allow" : "some" }, state.port);
      parts.push(element("p", GLYPHS[result] + " " + wayText(way, state.port), "verdict " + result));
      parts.push(...sideParts(data.sides[way.egress], "egress"), ...sideParts(data.sides[way.ingress], "ingress"));
    });
    parts.push(...memberParts(from, "Source"), ...(from === to ? [] : memberParts(to, "Destination")));
    why.replaceChildren(...parts);
    why.scrollTop = 0;
  }

  let pinned = null;
  let current = null;

  function show(td) {
    document.querySelectorAll("#matrix .current").forEach((marked) => marked.classList.remove("current"));
    current = td;
    explain(td);
    if (!td) return;
    td.classList.add("current");
    td.parentElement.firstElementChild.classList.add("current");
    at("matrix").tHead.rows[0].cells[td.cellIndex].classList.add("current");
  }

  const cellOf = (event) => event.target.closest("#matrix td");

  at("matrix").addEventListener("pointerover", (event) => {
    const td = cellOf(event);
    if (td && !pinned && td !== current) show(td);
  });
  at("matrix").addEventListener("focusin", (event) => {
    const td = cellOf(event);
    if (!td) return;
    // Only one cell is a stop of the tab key. A cell that lost its tabindex would lose the focus too.
    at("matrix").querySelectorAll("td[tabindex]").forEach((other) => {
      if (other !== td) other.removeAttribute("tabindex");
    });
    td.tabIndex = 0;
    if (pinned) pinned = td;
    show(td);
  });
  // A click pins, so that the pointer can go to the explanation.
  at("matrix").addEventListener("click", (event) => {
    const td = cellOf(event);
    if (!td) return;
    pinned = pinned === td ? null : td;
    show(td);
  });
  at("matrix").addEventListener("keydown", (event) => {
    const td = cellOf(event);
    if (!td) return;
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const step = steps[event.key];
    if (event.key === "Escape") pinned = null;
    if (!step) return;
    event.preventDefault();
    const next = at("matrix").tBodies[0].rows[td.parentElement.sectionRowIndex + step[0]];
    const target = next && next.cells[td.cellIndex + step[1]];
    if (!target || target.tagName !== "TD") return;
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  // Around the table.

  function fillPlaces(select, indexes) {
    const places = new Map();
    indexes.forEach((index) => {
      const end = ends[index];
      const name = { pods: end.namespace, nodes: "nodes", outside: "outside addresses" }[end.kind];
      places.set(end.place, end.kind === "pods" ? name : "(" + name + ")");
    });
    places.forEach((name, place) => {
      const option = element("option", name);
      option.value = place;
      select.append(option);
    });
  }

  function legend(port) {
    const asked = port ? port.name : data.port;
    const entries = [
      ["allow", (asked || "everything") + " may pass"],
      ["some", asked ? "over one family" : "these ports alone"],
      ["deny", asked ? "it may not pass" : "nothing may pass"],
    ];
    at("legend").replaceChildren();
    if (data.cells.some((cell) => cell.verdict === "no-family")) entries.push(["no-family", "no address family in common"]);
    entries.forEach(([name, text]) => {
      const item = element("li");
      item.append(element("i", GLYPHS[name], name), text);
      at("legend").append(item);
    });
    const own = data.node_egress === "allow" ? "A pod and its own node always reach each other." : "A pod's own node always reaches it.";
    at("legend").append(element("li", "Blank: no pod, or one pod alone. " + own));
  }

  at("summary").textContent = summary();
  fillPlaces(at("from"), allSources);
  fillPlaces(at("to"), allDestinations);
  data.notes.forEach((note) => at("notes").append(element("p", note)));
  if (data.port) at("port").disabled = true;
  ["search", "from", "to", "port"].forEach((id) => at(id).addEventListener("input", render));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", () => setTimeout(render));
  at("clear").addEventListener("click", () => at("filters").reset());
  render();
})();
