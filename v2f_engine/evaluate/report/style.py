"""The page's style sheet: one column on a phone, light and dark by the reader's own setting."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#5a6370;--line:#dde1e6;--own:#e8f1fb;
--blue:#0b6bb5;--red:#c4500a;--green:#008a63;--pink:#b0307c;--amber:#946200;--sky:#3d9bd1;--good:#0a7f4f;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1d2127;--ink:#e7eaee;--soft:#9aa4b1;--line:#323942;
--own:#18324a;--blue:#5cb0f0;--red:#f08a4b;--green:#3fc79a;
--pink:#f083c2;--amber:#e3b341;--sky:#9fd8ff;--good:#4cc38a;--bad:#f2786d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1400px;margin:0 auto;padding:32px 28px 64px}
h1{font-size:2rem;line-height:1.15;margin:0 0 6px;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:52px 0 6px;padding-top:18px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 2px}
p{margin:0 0 14px;max-width:74ch}
.lead,.note{color:var(--soft)} .note{font-size:.88rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:10px;margin:22px 0 4px}
.tile{background:var(--card);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:1.55rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.85rem;line-height:1.35;display:block}
.tile small{display:block;color:var(--soft);font-size:.8rem;margin-top:2px}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,540px),1fr));gap:8px 22px;margin:14px 0}
.sets{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,540px),1fr));gap:18px 30px;margin-top:14px}
.faces div{display:grid;grid-template-columns:repeat(8,1fr);gap:5px}
.faces img,.pair img{width:100%;height:auto;aspect-ratio:1;display:block;border-radius:4px;background:var(--card)}
.two{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:26px 30px;margin-top:18px}
.chart{margin:6px 0 0}.chart svg{width:100%;height:auto;display:block;overflow:visible}
.chart text{fill:var(--soft);font-size:13px}.chart .axis{fill:var(--ink)}
.grid{stroke:var(--line);stroke-width:1}.mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:2 3}
.chart .markname{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:4px}
a{color:var(--blue)}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.85rem;color:var(--soft);padding-left:9%}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto;margin:14px 0;border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 11px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);font-size:.82rem}
td small{display:block;color:var(--soft);font-size:.8rem;line-height:1.25}
.short{margin:18px 0 0;padding-left:20px;max-width:96ch}.short li{margin:4px 0}
.good,.bad{font-weight:650;white-space:nowrap}.good{color:var(--good)}.good::before{content:"▲ "}
.bad{color:var(--bad)}.bad::before{content:"▼ "}
tr:last-child td{border-bottom:0}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);z-index:1}
td.words{text-align:left;white-space:normal;min-width:190px} th.words{text-align:left}
tr.own td,tr.own td:first-child{background:var(--own)} tr.own td:first-child{font-weight:650}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:14px;margin:16px 0}
.pair div{display:grid;grid-template-columns:1fr 1fr;gap:3px}
.pair span{font-size:.82rem;color:var(--soft);font-variant-numeric:tabular-nums}
.blank{aspect-ratio:1;background:var(--card);border-radius:4px;display:grid;place-items:center;color:var(--soft);
font-size:.75rem}
details{margin:12px 0}summary{cursor:pointer;color:var(--blue);padding:4px 0}
code{font:.86em ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
pre{background:var(--card);border-radius:10px;padding:12px 14px;white-space:pre-wrap;margin:10px 0}
td.words code{white-space:normal}
@media(max-width:560px){main{padding:20px 14px 48px}h1{font-size:1.6rem}h2{margin-top:38px}
.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:1.3rem}.faces div{grid-template-columns:repeat(6,1fr)}
.faces img:nth-child(n+7){display:none}.chart text{font-size:19px}.chart .axis{font-size:20px}
th,td{padding:6px 8px}td:first-child{max-width:150px;white-space:normal}
.stack thead{display:none}.stack table,.stack tbody{display:block}
.stack tr{display:grid;grid-template-columns:1fr 1fr;padding:8px 10px;border-bottom:1px solid var(--line)}
.stack td small{white-space:normal}.stack tr:last-child{border:0}.stack td{border:0;padding:1px 0;text-align:left}
.stack td:first-child,.stack td:last-child{grid-column:1/-1;max-width:none}.stack td:first-child{font-weight:650}
.stack td[data-name]::before{content:attr(data-name);display:block;font-size:.78rem;color:var(--soft);
overflow:hidden;text-overflow:ellipsis}}
@media print{:root{color-scheme:light}.scroll{overflow:visible}h2,h3{break-after:avoid}
tr,figure,.tile,.faces div,.pair{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;padding:0}body{font-size:11pt}}
"""
