"""Pictures and pages: artifacts and arrays in; PIL images, SVG, HTML or a recording out. Nothing here knows a stage.

Figures by name: ``figures``; each has a file: ``similarity`` (with ``queries``), ``features``, ``coverage``, ``errors``
(``predicted`` reads what it shows); ``recording`` is for the rerun viewer. ``shown`` is one frame with all it is drawn
from, ``choose`` which one; ``sheet`` lays out figures for print.

Parts: ``palette`` colours; ``raster`` points on a canvas; ``projection`` points on images; ``bev`` a scan from above;
``pca`` features as colours. The page: ``html``, ``style``, ``svg``, ``curves``, ``scores``, ``quality``, ``taught``,
``trainings`` and ``provenance``.
"""
