"""Pictures and pages: arrays in, PIL image, SVG or HTML out. Nothing here knows a stage.

``palette`` colours; ``raster`` points on a canvas; ``projection`` points on images; ``bev`` a scan from above;
``pca`` features as colours; ``curves`` line figures; ``svg`` figures in the page's own colours; ``html`` and ``style``
the page; ``scores``, ``quality``, ``taught``, ``predicted``,
``trainings`` and ``provenance`` the parts of a report.
"""
