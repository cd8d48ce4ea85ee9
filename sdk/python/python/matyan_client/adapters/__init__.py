"""Callbacks and loggers that record the training loops of common frameworks.

Each module belongs to one framework and is imported on its own, so that no framework is needed
by anything but its module::

    from matyan_client.adapters.xgboost import MatyanCallback

    xgboost.train(params, data, callbacks=[MatyanCallback(experiment="trees")])

Each module has a short name, such as `matyan_client.xgboost`. It is a file that names all imports,
because editors and type checkers do not find modules that are made while a program runs.

All adapters follow the same rules. The run is created when it is first needed and is available as
`experiment`. After `close()`, the next use continues the same run. Tracking never ends a training
run: the first failure is logged as a warning, all are counted in `tracking_failures`.
"""
