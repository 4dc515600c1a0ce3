"""The page's style sheet: system fonts, one column, light and dark by the reader's setting, fit for print."""

STYLE = """
:root{color-scheme:light dark;--bg:#ffffff;--fg:#1b1f26;--muted:#5a6372;--line:#dde1e8;--soft:#f4f6f9;--accent:#1f5fc4;
--s0:#1f6fd6;--s1:#c8641a;--s2:#2b8a5a;--s3:#8a4fc0;--good:#1b7a45;--bad:#b3372f;--warn:#fff4d6;--warnfg:#6b4a00}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--fg:#e6e9ee;--muted:#9aa4b2;--line:#323944;--soft:#1c2027;
--accent:#7fb0ff;--s0:#6aa8ff;--s1:#f09a4e;--s2:#5cc491;--s3:#c093f0;--good:#5fcf93;--bad:#ff8a80;--warn:#3a3016;
--warnfg:#f3d78a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;line-height:1.25;margin:0 0 6px;font-weight:650;letter-spacing:-.01em}
h2{font-size:18px;margin:44px 0 10px;padding-bottom:6px;border-bottom:1px solid var(--line);font-weight:620}
h3{font-size:15px;margin:24px 0 8px;font-weight:620}
p{margin:8px 0;max-width:80ch}
.lead{color:var(--muted)}
.reading{font-size:17px;line-height:1.5;margin:18px 0 4px;padding:14px 18px;background:var(--soft);
border-left:4px solid var(--accent);border-radius:0 6px 6px 0;max-width:none}
.synthetic{display:inline-block;margin:0 0 12px;padding:3px 10px;border-radius:4px;background:var(--warn);
color:var(--warnfg);font-size:13px;font-weight:600}
.note{color:var(--muted)}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 18px;margin:16px 0 0}
dl.facts dt{color:var(--muted)}dl.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;margin:8px 0;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--muted);font-weight:560;vertical-align:bottom}
.n{text-align:right}
.l:first-child,.n:first-child{padding-left:0}th,td{padding:5px 12px}
td.w{white-space:normal;min-width:210px}
tr.total td{font-weight:620;border-bottom:0}
details{margin:8px 0;border:1px solid var(--line);border-radius:6px;background:var(--soft)}
details>summary{cursor:pointer;padding:7px 12px;font-weight:560;overflow-wrap:anywhere}
details>:not(summary){margin:4px 12px 12px}
details details{background:var(--bg)}
pre{font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto;max-height:420px;margin:0;
padding:10px 12px;background:var(--bg);border:1px solid var(--line);border-radius:4px}
figure{margin:12px 0}
figcaption{color:var(--muted);font-size:13px;margin-top:5px;max-width:90ch}
figure svg{display:block;width:100%;max-width:480px;height:auto}
img{display:block;width:100%;height:auto;border-radius:4px}
.pictures{display:grid;gap:4px 16px;margin:10px 0}.pictures figure{margin:6px 0;min-width:0}
.c1{grid-template-columns:minmax(0,1fr)}.c2{grid-template-columns:repeat(2,minmax(0,1fr))}
.c3{grid-template-columns:repeat(3,minmax(0,1fr))}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:3px 16px;margin:8px 0;padding:0;font-size:13px}
ul.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px;
border:1px solid var(--line)}
.bar{display:flex;align-items:center;gap:8px;font-size:13px;margin:6px 0}
.bar i{display:inline-block;width:180px;height:12px;border-radius:3px}
@media (max-width:700px){.c2,.c3{grid-template-columns:minmax(0,1fr)}main{padding:18px 14px 40px}h1{font-size:22px}}
@media print{details>summary{list-style:none}h2{break-after:avoid}figure{break-inside:avoid}}
"""
