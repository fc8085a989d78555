// The console's charts, drawn by the Chart.js that Unfold brings. Their numbers are in <script type="application/json">
// elements of the page. Tenants differ by colour, marker and dash, so that no two need colours to be told apart.
"use strict";

(() => {
  // Okabe and Ito's palette, in an order that keeps neighbours apart; lighter variants for the dark theme.
  const COLOURS = {
    light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a5195", "#6b6b6b"],
    dark: ["#56b4e9", "#ff9a4d", "#2fd0a0", "#f0a6ca", "#f0e442", "#9ecbff", "#c9a6ff", "#c4c4c4"],
  };
  const MARKERS = ["circle", "triangle", "rect", "rectRot", "star", "crossRot", "cross", "dash"];
  const MANY = 16; // versions: with more, markers hide the lines
  const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];

  const charts = new Map();
  const isDark = () => document.documentElement.classList.contains("dark");
  const read = (kind) => JSON.parse(document.getElementById(`${kind}-data`)?.textContent ?? "null");
  const percent = (fraction) => `${(100 * fraction).toFixed(1)} %`;

  function readableBytes(size) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    const power = size ? Math.min(units.length - 1, Math.floor(Math.log10(size) / 3)) : 0;
    return `${(size / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
  }

  function palette() {
    const dark = isDark();
    return {
      series: COLOURS[dark ? "dark" : "light"],
      text: dark ? "#cbd5e1" : "#475569",
      strong: dark ? "#ffffff" : "#0f172a",
      grid: dark ? "rgba(148, 163, 184, 0.16)" : "rgba(100, 116, 139, 0.16)",
      surface: dark ? "#1e293b" : "#0f172a",
    };
  }

  function tenantStyle(colours, index) {
    const colour = colours.series[index % colours.series.length];
    return {
      borderColor: colour,
      backgroundColor: colour,
      pointStyle: MARKERS[index % MARKERS.length],
      borderDash: DASHES[Math.floor(index / COLOURS.light.length) % DASHES.length],
      borderWidth: 1.75,
      pointRadius: 3.5 + 0.75 * (index % MARKERS.length), // of equal values the later marker shows behind the earlier
      pointHoverRadius: 8,
      spanGaps: true,
    };
  }

  function axis(colours, title, extra = {}) {
    const { ticks, ...rest } = extra;
    return {
      title: { display: true, text: title, color: colours.text, font: { weight: 500 } },
      ticks: { color: colours.text, padding: 6, ...ticks },
      grid: { color: colours.grid, drawTicks: false },
      border: { display: false },
      ...rest,
    };
  }

  function options(colours, scales, tooltip, extra = {}) {
    return {
      responsive: true,
      maintainAspectRatio: false,
      animation: { duration: 250 },
      interaction: { mode: "index", intersect: false },
      scales,
      plugins: {
        legend: {
          position: "bottom",
          labels: { color: colours.text, usePointStyle: true, boxHeight: 7, padding: 16 },
        },
        tooltip: { backgroundColor: colours.surface, padding: 10, usePointStyle: true, callbacks: tooltip },
      },
      ...extra,
    };
  }

  function accuracy(data, colours) {
    const label = (name) => (name === data.published ? [name, "published"] : name);
    const isMany = data.labels.length > MANY;
    const mean = {
      label: "mean of tenants",
      data: data.mean,
      borderColor: colours.strong,
      backgroundColor: colours.strong,
      borderWidth: 3.5,
      pointRadius: data.labels.map((name) => (name === data.published ? 7 : isMany ? 0 : 4)),
      pointStyle: "circle",
      spanGaps: true,
      order: -1,
    };
    const tenants = data.tenants.map((line, index) => ({
      label: line.name,
      data: line.values,
      ...tenantStyle(colours, index),
      ...(isMany ? { pointRadius: 0 } : {}),
    }));
    const told = (item) => {
      const over = item.datasetIndex === 0 ? ` (${data.n_scores[item.dataIndex]} tenants)` : "";
      return ` ${item.dataset.label}${over}: ${percent(item.parsed.y)}`;
    };
    return {
      type: "line",
      data: { labels: data.labels.map(label), datasets: [mean, ...tenants] },
      options: options(
        colours,
        {
          x: axis(colours, "prefix version (base: the model without a prefix)", { grid: { display: false } }),
          y: axis(colours, "held-out accuracy", { grace: "8%", ticks: { callback: (value) => `${Math.round(100 * value)} %` } }),
        },
        { label: told },
      ),
    };
  }

  function loss(data, colours) {
    const datasets = data.map((line, index) => ({
      label: line.name,
      data: line.points.map(([step, value]) => ({ x: step, y: value })),
      ...tenantStyle(colours, index),
      ...(line.points.length > 40 ? { pointRadius: 0 } : {}),
    }));
    return {
      type: "line",
      data: { datasets },
      options: options(
        colours,
        {
          x: axis(colours, "step", { type: "linear", ticks: { precision: 0 }, grid: { display: false } }),
          y: axis(colours, "training loss (nats)", { beginAtZero: true }),
        },
        {
          title: (items) => `step ${items[0].parsed.x}`,
          label: (item) => ` ${item.dataset.label}: ${item.parsed.y.toFixed(3)}`,
        },
        { interaction: { mode: "nearest", axis: "x", intersect: false } },
      ),
    };
  }

  function bytes(data, colours) {
    const bars = (label, values, colour) => ({
      label,
      data: values,
      backgroundColor: colour,
      borderRadius: 3,
      maxBarThickness: 36,
      pointStyle: "rect",
    });
    return {
      type: "bar",
      data: {
        labels: data.labels,
        datasets: [
          bars("up: updates", data.up, colours.series[1]),
          bars("down: versions", data.down, colours.series[0]),
        ],
      },
      options: options(
        colours,
        {
          x: axis(colours, "round", { grid: { display: false } }),
          y: axis(colours, "payload bytes", { beginAtZero: true, ticks: { callback: readableBytes } }),
        },
        {
          title: (items) => `round ${items[0].label}`,
          label: (item) => ` ${item.dataset.label}: ${readableBytes(item.parsed.y)}`,
        },
      ),
    };
  }

  const KINDS = { accuracy, loss, bytes };

  function draw(canvas) {
    const kind = canvas.dataset.chart;
    const data = read(kind);
    if (data === null) {
      return;
    }
    const wanted = KINDS[kind](data, palette());
    const chart = charts.get(canvas);
    if (chart) {
      chart.data = wanted.data;
      chart.options = { ...wanted.options, animation: false };
      chart.update();
    } else {
      charts.set(canvas, new Chart(canvas, wanted));
    }
  }

  function drawAll() {
    for (const [canvas, chart] of charts) {
      if (!canvas.isConnected) {
        chart.destroy();
        charts.delete(canvas);
      }
    }
    document.querySelectorAll("canvas[data-chart]").forEach(draw);
  }

  window.addEventListener("load", () => {
    Chart.defaults.font.family = "Inter, sans-serif";
    drawAll();
    new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["class"] });
  });
  document.addEventListener("htmx:afterSettle", drawAll);
})();
