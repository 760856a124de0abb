"""soundbench: teach a machine to know sounds."""
