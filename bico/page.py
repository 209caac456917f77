"""The results page: every rendered video beside its sources, one file of HTML that links to the media."""

import os
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment

from bico.files import write_text
from bico.manifest import Manifest
from bico.sheets import palette

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
  figure { margin: 0; }
  figcaption { font-size: .85rem; opacity: .8; }
  video, img { display: block; width: 320px; max-width: 100%; image-rendering: auto; background: #8883; }
  .source video, .source img { width: 200px; border-top: 4px solid var(--colour); }
</style>
<h1>Bind &amp; Compose</h1>
<p>{{ compositions|length }} compositions of {{ concepts|length }} concepts, model {{ model }}. Bound words are
underlined in the colour of their source.</p>
{%- macro media(path, name) %}
{%- if path.endswith(".mp4") %}<video src="{{ path }}" controls loop muted autoplay playsinline preload="metadata"
 aria-label="{{ name }}"></video>{% else %}<img src="{{ path }}" alt="{{ name }}" loading="lazy">{% endif %}
{%- endmacro %}
{%- for c in compositions %}
<section id="{{ c.id }}">
<h2>{{ c.id }}</h2>
<p class="prompt">{% for piece in c.pieces %}{% if piece.concept -%}
<b style="--colour: {{ c.colours[piece.concept] }}" title="{{ piece.concept }}
{%- if piece.scale != 1 %}, scaled by {{ piece.scale }}{% endif %}">{{ piece.text }}</b>
{%- else %}{{ piece.text }}{% endif %} {% endfor %}</p>
<div class="row">
{%- for name, path in c.sources %}
<figure class="source" style="--colour: {{ c.colours[name] }}">{{ media(path, name) }}
<figcaption>{{ name }}</figcaption></figure>
{%- endfor %}
{%- for seed, path, sheet in c.results %}
<figure>{{ media(path, c.id) }}
<figcaption>seed {{ seed }} · <a href="{{ sheet }}">contact sheet</a></figcaption></figure>
{%- endfor %}
</div>
</section>
{%- endfor %}
</html>
"""


def write_page(
    output: str | Path,
    path: str | Path,
    manifest: Manifest,
    model: str,
    clip: Callable[[str], str | None],
    result: Callable[[str, int], str],
) -> None:
    """Writes the page, whose place is `path`, to `output`. clip(concept) and result(composition, seed) are paths; the
    sheet lies beside the result."""
    folder = Path(path).parent

    def link(target: str) -> str:
        return Path(os.path.relpath(target, folder)).as_posix()

    compositions = [
        {
            "id": composition.id,
            "pieces": composition.pieces,
            "colours": {concept: palette(k) for k, concept in enumerate(composition.concepts)},
            "sources": [(concept, link(clip(concept))) for concept in composition.concepts if clip(concept)],
            "results": [
                (seed, link(result(composition.id, seed)), link(result(composition.id, seed) + ".sheet.jpg"))
                for seed in composition.seeds
            ],
        }
        for composition in manifest.compositions.values()
    ]
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    write_text(output, template.render(compositions=compositions, concepts=manifest.concepts, model=model))
