"""Panels of a Grafana dashboard, as plain data: what `gen_dashboard.py` builds with.

Nothing here knows the mesh. Panels have no ids of data sources, but that of a variable, so that a dashboard
can be imported anywhere. https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
has the format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA_VERSION: Final = 39
"""Of Grafana 10.4 and 11; newer ones read it."""
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: Name of each series; `{{label}}` stands for a label's value.
        exemplar: Ask for exemplars as well: of queries of histograms.
        instant: Ask for the present value alone.
        heatmap: Series are buckets of a histogram.

    """

    expr: str
    legend: str = ""
    exemplar: bool = False
    instant: bool = False
    heatmap: bool = False

    def data(self, ref: str) -> dict[str, Any]:
        """Return it as Grafana has it; `ref` is its letter in the panel."""
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "exemplar": self.exemplar,
            "expr": self.expr,
            "format": "heatmap" if self.heatmap else "time_series",
            "instant": self.instant,
            "legendFormat": self.legend or "__auto",
            "range": not self.instant,
            "refId": ref,
        }


@dataclass(frozen=True)
class Panel:
    """A panel of one kind: what `data` makes is the same but for kind and options.

    Attributes:
        title: Above it.
        description: What it says and what to look for, in a sentence or two.
        queries: What it shows.
        unit: Grafana's name of a unit: `s`, `percentunit`, `reqps`, `bytes`, `currencyUSD`, `short`.
        width: Of 24 columns.
        height: In rows of the grid.
        limits: Values from which on it is yellow, and red.

    """

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 8
    height: int = 8
    limits: tuple[float, float] | None = None

    kind = "timeseries"

    def options(self) -> dict[str, Any]:
        """Return what is its kind's own."""
        return {}

    def custom(self) -> dict[str, Any]:
        """Return how fields of its kind are drawn."""
        return {}

    def data(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return it as Grafana has it: the panel `number`, at a place in the grid."""
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.limits is not None:
            steps += [
                {"color": "yellow", "value": self.limits[0]},
                {"color": "red", "value": self.limits[1]},
            ]
        return {
            "datasource": DATASOURCE,
            "description": self.description,
            "fieldConfig": {
                "defaults": {
                    "custom": self.custom(),
                    "min": 0,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    "unit": self.unit,
                },
                "overrides": [],
            },
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "id": number,
            "options": self.options(),
            "targets": [query.data(chr(ord("A") + index)) for index, query in enumerate(self.queries)],
            "title": self.title,
            "type": self.kind,
        }


@dataclass(frozen=True)
class Lines(Panel):
    """Lines over time; `stacked` ones are areas on top of each other."""

    stacked: bool = False

    def custom(self) -> dict[str, Any]:
        """Return how lines are drawn."""
        return {
            "drawStyle": "line",
            "fillOpacity": 60 if self.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": "normal" if self.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if self.limits else "off"},
        }

    def options(self) -> dict[str, Any]:
        """Return legend and tooltip."""
        return {
            "legend": {
                "calcs": ["mean", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True)
class Figure(Panel):
    """One figure, with how it was behind it."""

    width: int = 4
    height: int = 4

    kind = "stat"

    def options(self) -> dict[str, Any]:
        """Return how the figure is drawn."""
        return {
            "colorMode": "value" if self.limits else "none",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }


@dataclass(frozen=True)
class Heat(Panel):
    """How values are spread, over time: the one query is of a histogram's buckets."""

    kind = "heatmap"

    def options(self) -> dict[str, Any]:
        """Return how it is drawn."""
        return {
            "calculate": False,
            "cellGap": 0,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "exemplars": {"color": "rgba(31,120,193,0.9)"},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": self.unit},
        }


@dataclass(frozen=True)
class Row:
    """A heading, and the panels below it from left to right."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def datasource(name: str, label: str) -> dict[str, Any]:
    """Return a variable that names a Prometheus."""
    return {"hide": 0, "label": label, "name": name, "query": "prometheus", "type": "datasource"}


def label_values(name: str, label: str, metric: str, *, of: str = "") -> dict[str, Any]:
    """Return a variable with the values of a label (`of`, or else `name`) of `metric`.

    At first it is all of them: `.*`, which also stands for a label that is not there.
    """
    query = f"label_values({metric}, {of or name})"
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[dict[str, Any]], rows: Sequence[Row]
) -> dict[str, Any]:
    """Return a whole dashboard.

    Raises:
        ValueError: Panels of a row do not fill its lines, so that Grafana would move them about.

    """
    return {
        "annotations": {"list": []},
        "description": description,
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": list(_laid_out(rows)),
        "refresh": "10s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["voicemesh"],
        "templating": {"list": list(variables)},
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "id": number,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        y += 1
        x = height = 0
        for panel in row.panels:
            number += 1
            if x and panel.height != height:
                raise ValueError(f"{row.title}: {panel.title} is not as high as its neighbours")
            yield panel.data(number, x, y)
            x, height = x + panel.width, panel.height
            if x > COLUMNS:
                raise ValueError(f"{row.title}: {panel.title} does not fit into its line")
            if x == COLUMNS:
                x, y = 0, y + height
        if x:
            raise ValueError(f"{row.title}: its last line is not full, {COLUMNS - x} columns are left")
