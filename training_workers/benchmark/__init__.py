"""How well the platform learns: methods and recipes on real bases, tasks and splits, by the platform's own code.

What is trained, averaged, checked and scored here is done by the functions that workers and coordinator call;
only the database, the queue and the processes between them are left out.
"""
