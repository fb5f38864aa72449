"""How a page looks: light and dark, on a phone and on paper.

Series are told apart by colour (Okabe and Ito's, which the colour-blind can tell) and by shape.
"""

STYLE = """
:root{--ink:#1b1f24;--soft:#5a636d;--line:#dde1e6;--paper:#fff;--panel:#f6f8fa;--link:#0b5394;
 --s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#cc79a7;--s4:#b58900;--s5:#56b4e9;
 --q0:#f1c40f;--q1:#5ec962;--q2:#21918c;--q3:#3b528b;--q4:#440154}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa4ae;--line:#343b42;
 --paper:#14171a;--panel:#1c2125;--link:#8cc4ff;
 --s0:#56b4e9;--s1:#f0874a;--s2:#3fc79a;--s3:#e6a3c8;--s4:#e9c46a;--s5:#8fd3ff;
 --q0:#5b4a9e;--q1:#3e7fb8;--q2:#27ad81;--q3:#9fd83f;--q4:#fff27a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{font:16px/1.55 system-ui,"DejaVu Sans",sans-serif;color:var(--ink);background:var(--paper);
 max-width:74rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:.5rem 0 .75rem;overflow-wrap:anywhere}
h2{font-size:1.35rem;margin:0 0 .5rem;padding-top:1.75rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.75rem 0 .5rem}
section{margin-top:2.25rem;scroll-margin-top:.5rem}
p,ul{max-width:52rem;margin:.6rem 0}
li{margin:.3rem 0}
a{color:var(--link)}
code{font:.9em ui-monospace,"DejaVu Sans Mono",monospace;background:var(--panel);
 padding:.05em .3em;border-radius:4px;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;margin:1rem 0;padding:.6rem .9rem;
 background:var(--panel);border-radius:8px;font-size:.92rem}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .65rem;text-align:right;border-bottom:1px solid var(--line);
 white-space:nowrap;vertical-align:top}
td.words{white-space:normal;min-width:13rem}
th{border-bottom:2px solid var(--soft);vertical-align:bottom}
th.left,td.left{text-align:left}
tbody tr:hover{background:var(--panel)}
strong{font-weight:650}
td strong{color:var(--link)}
p.note,figcaption{color:var(--soft);font-size:.88rem}
figure{margin:1.25rem 0}
figcaption{max-width:52rem;margin-top:.4rem}
.panels{display:grid;gap:1rem 1.5rem;
 grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr))}
.panels>svg{width:100%;max-width:32rem;height:auto;display:block;overflow:visible}
.plot svg{fill:currentColor;max-width:100%;min-width:34rem;height:auto;display:block}
ul.key{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:.4rem 0;
 font-size:.9rem}
ul.key li{margin:0}
ul.key svg{width:1em;height:1em;margin-right:.4em;vertical-align:-.1em;overflow:visible}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--link);font-size:.92rem}
svg text{fill:var(--ink);font:13px system-ui,"DejaVu Sans",sans-serif}
svg .soft{fill:var(--soft)}
svg .head{font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1;fill:none}
svg .axis{stroke:var(--soft);stroke-width:1;fill:none}
svg .dash{stroke-dasharray:5 4}
svg .curve{fill:none;stroke-width:2;stroke-linejoin:round}
svg .reach{stroke-width:1.8;fill:none}
svg .hollow{fill:var(--paper)}
svg .f0{fill:var(--s0)}svg .f1{fill:var(--s1)}svg .f2{fill:var(--s2)}
svg .f3{fill:var(--s3)}svg .f4{fill:var(--s4)}svg .f5{fill:var(--s5)}
svg .q0{fill:var(--q0)}svg .q1{fill:var(--q1)}svg .q2{fill:var(--q2)}
svg .q3{fill:var(--q3)}svg .q4{fill:var(--q4)}
svg .l0{stroke:var(--s0)}svg .l1{stroke:var(--s1)}svg .l2{stroke:var(--s2)}
svg .l3{stroke:var(--s3)}svg .l4{stroke:var(--s4)}svg .l5{stroke:var(--s5)}
@media(max-width:40rem){body{padding:1rem .8rem 3rem}h1{font-size:1.4rem}h2{font-size:1.2rem}}
@media print{
 :root{--ink:#000;--soft:#444;--line:#bbb;--paper:#fff;--panel:#f4f4f4;--link:#000;
 --s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#cc79a7;--s4:#b58900;--s5:#56b4e9}
 body{font-size:11pt;max-width:none;padding:0}
 nav{display:none}
 figure,table,tr{break-inside:avoid}
 h2,h3{break-after:avoid}
 .wide{overflow:visible}
 .panels{grid-template-columns:1fr 1fr}
}
"""
