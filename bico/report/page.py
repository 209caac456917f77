"""The results page: every rendered video beside its sources, one file of HTML that links to the media."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from bico.evaluate import MEANINGS
from bico.report.sheets import palette
from bico.runtime.files import write_text
from bico.text.grammar import link

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BiCo: {{ compositions|length }} compositions</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
  section { border-top: 1px solid #8884; padding: 1rem 0 1.5rem; }
  h2 { margin: 0 0 .25rem; font-size: 1.1rem; }
  .prompt { font-size: 1.1rem; margin: 0 0 .75rem; }
  .prompt b { font-weight: 600; padding: 0 .15em; border-bottom: 3px solid var(--colour); }
  .row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
  code { padding: .1em .3em; background: #8882; border-radius: 4px; user-select: all; }
  figure { margin: 0; }
  figcaption { font-size: .85rem; opacity: .8; }
  video, img { display: block; width: 280px; max-width: 100%; image-rendering: auto; background: #8883; }
  table { border-collapse: collapse; margin-top: .5rem; font-size: .9rem; }
  th, td { text-align: left; font-weight: normal; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #8883; }
  .source video, .source img { width: 160px; border-top: 4px solid var(--colour); }
</style>
<h1>Bind &amp; Compose</h1>
<p>{{ compositions|length }} compositions of {{ concepts }} concepts, model {{ title }}. Bound words are
underlined in the colour of their source.</p>
{%- macro media(path, name) %}
{%- if path.endswith(".mp4") %}<video src="{{ path }}" controls loop muted autoplay playsinline preload="metadata"
 aria-label="{{ name }}"></video>{% else %}<img src="{{ path }}" alt="{{ name }}" loading="lazy">{% endif %}
{%- endmacro %}
{%- for c in compositions %}
<section id="{{ c.id }}">
<h2>{{ c.id }}</h2>
<p class="prompt">{% for text, concept, scale in c.pieces %}{% if concept -%}
<b style="--colour: {{ c.colours[concept] }}" title="{{ concept }}
{%- if scale != 1 %}, scaled by {{ scale }}{% endif %}">{{ text }}</b>
{%- else %}{{ text }}{% endif %} {% endfor %}</p>
<div class="row">
{%- for name, path in c.sources %}
<figure class="source" style="--colour: {{ c.colours[name] }}">{{ media(path, name) }}
<figcaption>{{ name }}</figcaption></figure>
{%- endfor %}
{%- for seed, path, twin in c.results %}
<figure>{{ media(path, c.id) }}
<figcaption>seed {{ seed }} · <a href="{{ path }}.sheet.jpg">contact sheet</a></figcaption></figure>
{%- if twin %}
<figure>{{ media(twin, c.id ~ ", no word bound") }}
<figcaption>the same words and seed, none of them bound</figcaption></figure>
{%- endif %}
{%- endfor %}
</div>
{%- if c.metrics %}
<details><summary>Metrics{% if c.compared %}, bound and unbound{% endif %}</summary>
<table><thead><tr><th scope="col">metric</th>{% for seed in c.seeds %}<th scope="col">seed {{ seed }}</th>
{%- if c.compared %}<th scope="col">unbound</th>{% endif %}{% endfor %}</tr></thead>
<tbody>
{%- for name, meaning, cells in c.metrics %}
<tr><th scope="row" title="{{ meaning }}">{{ name }}</th>{% for text, reason in cells -%}
<td{% if reason %} title="{{ reason }}"{% endif %}>{{ text }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></details>
{%- endif %}
</section>
{%- endfor %}
{%- if words %}
<section id="words">
<h2>Words that can be linked</h2>
<p>What each concept was bound to, ready to stand in a prompt of compositions.csv:</p>
<ul>
{%- for concept, links in words.items() %}
<li>{% for link in links %}<code>{{ link }}</code> {% endfor %}</li>
{%- endfor %}
</ul>
</section>
{%- endif %}
{%- for id, reason in refused %}
<section id="{{ id }}">
<h2>{{ id }}</h2>
<p>not made: {{ reason }}</p>
</section>
{%- endfor %}
</html>
"""


@dataclass(frozen=True)
class PageSettings:
    """method: whose results are shown; config: the part of the configuration that says what these are; shown: a digest
    of all that the page shows."""

    method: str
    config: dict
    shown: str = ""


def write_page(
    output: str | Path, content: dict, phrases: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str | Path] = (),
) -> None:  # fmt: skip
    """Writes the page, its content as `bico.plan.plan.Plan.page_content` gives it; a sheet lies beside its result.

    phrases: of each concept, which words of a prompt can be linked to it. metrics: the metrics.csv of the method, and
    of its twins.
    """
    tables = [_cells(path) for path in metrics]
    words = {concept: [link(phrase, concept) for phrase in found] for concept, found in (phrases or {}).items()}
    compositions = [
        {
            **composition,
            "colours": {concept: palette(k) for k, concept in enumerate(_linked(composition["pieces"]))},
            **_measured(composition, tables),
        }
        for composition in content["compositions"]
    ]
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    write_text(output, template.render(content | {"compositions": compositions, "words": words}))


def _cells(path: str | Path) -> dict[tuple[str, str], dict[str, tuple[str, str, str]]]:
    """What a metrics.csv says of each composition and seed: of each metric its value, why there is none, and what it
    means."""
    found = defaultdict(dict)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = f"{row['metric']}: {row['concept']}" if row["concept"] else row["metric"]
            text = f"{float(row['value']):.3g}" if row["value"] else "–"
            meaning = row["meaning"] or MEANINGS.get(row["metric"], ("",))[0]
            found[row["composition"], row["seed"]][name] = (text, row["reason"], meaning)
    return found


def _measured(composition: dict, tables: Sequence[dict]) -> dict:
    """The table of a composition's metrics: a row for each metric, with a column for each seed and one for its twin."""
    seeds = [str(seed) for seed, *_ in composition["results"]]
    has_twins = len(tables) > 1 and all(twin for *_, twin in composition["results"])
    shown = tables if has_twins else tables[:1]
    columns = [table.get((composition["id"], seed), {}) for seed in seeds for table in shown]
    meanings = {name: meaning for column in columns for name, (*_, meaning) in column.items()}
    nothing = ("–", "not measured", "")
    rows = [
        [name, meaning, [column.get(name, nothing)[:2] for column in columns]] for name, meaning in meanings.items()
    ]
    return {"metrics": rows, "seeds": seeds, "compared": has_twins}


def _linked(pieces: list) -> list[str]:
    """The linked concepts, in the order of the prompt."""
    return list(dict.fromkeys(concept for _, concept, _ in pieces if concept))
