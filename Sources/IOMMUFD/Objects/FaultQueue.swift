// Page requests of devices on their way to a client, and the answers on their way back (iommufd:
// struct iommufd_fault).

internal import UAPI

final class FaultQueue: Object, @unchecked Sendable {}
