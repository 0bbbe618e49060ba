"""How the page looks: ink on paper, one accent, and A4 when it is printed."""

STYLE = """
:root{--ink:#1b1f24;--soft:#5c6670;--rule:#d5dade;--accent:#1f4e79;--band:#dbe6f0;--good:#2b6a4d;--bad:#9b2c2c}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:9.6pt/1.42 "Source Serif 4",Charter,Georgia,"Times New Roman",serif}
main{max-width:190mm;margin:10mm auto;padding:0 6mm}
h1{font-size:19pt;font-weight:600;line-height:1.15;margin:.5mm 0 1mm}
h2{font:600 7.6pt/1.3 "Helvetica Neue",Arial,sans-serif;letter-spacing:.09em;text-transform:uppercase;
color:var(--accent);margin:5mm 0 1.2mm}
header{border-bottom:1.4pt solid var(--ink);padding-bottom:2mm}
.kind{font:600 7.6pt/1.3 "Helvetica Neue",Arial,sans-serif;letter-spacing:.09em;text-transform:uppercase;
color:var(--soft);margin:0}
.when{margin:0;color:var(--soft)}
.sentence{font-size:11.4pt;line-height:1.45;margin:4mm 0}
.note{color:var(--soft);font-style:italic}
.figures{display:flex;gap:0;margin:0 0 4mm;border-top:.5pt solid var(--rule);border-bottom:.5pt solid var(--rule)}
.figures div{flex:1 1 auto;padding:1.8mm 3mm;border-left:.5pt solid var(--rule)}
.figures div:first-child{border-left:0;padding-left:0}
dt{font:7.4pt/1.3 "Helvetica Neue",Arial,sans-serif;color:var(--soft)}
dd{margin:0;font-size:11.4pt;font-variant-numeric:tabular-nums;white-space:nowrap}
.pair{display:flex;gap:8mm;align-items:flex-start}
.pair>*{flex:1 1 0;min-width:0;margin:0}
figcaption{font:7.4pt/1.3 "Helvetica Neue",Arial,sans-serif;color:var(--soft);margin-bottom:1mm}
svg{display:block;width:100%;height:auto}
svg text{font:7.6px "Helvetica Neue",Arial,sans-serif;fill:var(--soft)}
svg .grid{stroke:#eceff1;stroke-width:.7}svg .zero{stroke:#9aa4ad;stroke-width:.8}
svg .band{fill:var(--band)}svg .line{fill:none;stroke:var(--accent);stroke-width:1.5;stroke-linejoin:round}
svg .dot{fill:var(--accent)}svg .mark{stroke:var(--good);stroke-width:1;stroke-dasharray:4 3}
svg text.name{fill:var(--good)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:baseline;padding:.7mm 2.5mm .7mm 0;border-bottom:.5pt solid #eceff1;
font-weight:400;overflow-wrap:anywhere}
th{color:var(--soft);white-space:nowrap;width:1%;padding-right:5mm}
.conditions th{color:var(--ink);font-weight:600}
.conditions .mark{width:1%;padding-right:2mm;font-family:"DejaVu Sans","Segoe UI Symbol",sans-serif}
.yes .mark{color:var(--good)}.no .mark{color:var(--bad)}.no th{color:var(--bad)}
.metrics td,.metrics tr:first-child th{text-align:right;padding-right:0}
.metrics td{width:32%}.metrics tr:first-child th:first-child{width:auto}
.hashes td{font:7.2pt/1.5 "SF Mono",Consolas,"DejaVu Sans Mono",monospace}
footer{margin-top:5mm;color:var(--soft);font-size:8pt}
section,figure,tr{break-inside:avoid}
@page{size:A4;margin:11mm 12mm}
@media print{body{font-size:7.7pt;line-height:1.36}main{margin:0;padding:0;max-width:none}h2{margin:2.8mm 0 .6mm}
.sentence{font-size:9.6pt;margin:2.4mm 0}h1{font-size:15pt}dd{font-size:9.6pt}.figures{margin-bottom:2.4mm}
.figures div{padding-top:1mm;padding-bottom:1mm}th,td{padding-top:.3mm;padding-bottom:.3mm}
.hashes td{font-size:6.6pt}footer{margin-top:2.5mm}}
"""
