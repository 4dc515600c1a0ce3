"""A seeded street world whose every surface is known, and the sensors that look at it. Synthetic, never real data.

Order to read: ``config`` (what can be set), ``plan`` (roads and blocks), ``town`` (everything that stands still),
``traffic`` (actors of a scene), ``ego`` (the drive), ``caster`` (rays), ``camera`` and ``lidar`` (sensors),
``world`` (one ``Capture`` a key frame), ``nuscenes_writer`` (one on-disk format).

A writer turns captures into one data set's folder and knows nothing of meshes and rays. To add a format, add one file
beside ``nuscenes_writer`` that consumes ``capture.Capture``.
"""
