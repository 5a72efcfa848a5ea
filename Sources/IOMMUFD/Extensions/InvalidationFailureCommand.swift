// IOMMUFD_SIM_VTD_INVALIDATE_FAIL: a test tells the unit in front of a device what is to fail.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum InvalidationFailureCommand {
  static func execute(
    _ command: inout UserCommand<iommufd_sim_vtd_invalidate_fail>
  ) throws(Errno) {
    let arguments = command.arguments
    let clear = IOMMUFD_SIM_VTD_INVALIDATE_FAIL_CLEAR.rawValue
    guard arguments.flags & ~clear == 0 else { throw .notSupported }
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(arguments.dev_id), as: BoundDevice.self)
      guard let unit = device.vtdUnit else { throw Errno.notSupported }
      let requester = device.device.requesterID
      if arguments.flags & clear != 0 {
        guard arguments.operation == 0, arguments.error == 0, arguments.nth == 0 else {
          throw Errno.invalidArgument
        }
        return unit.removePlannedFailures(of: requester)
      }
      let isOfDeviceTLB = arguments.operation == IOMMUFD_SIM_VTD_OPERATION_DEVICE_TLB.rawValue
      guard let error = VTdInvalidationError(bit: arguments.error), arguments.nth > 0,
        // What is not of a device TLB is not completed by a device.
        isOfDeviceTLB
          || arguments.operation == IOMMUFD_SIM_VTD_OPERATION_QUEUE.rawValue && error == .queue
      else { throw Errno.invalidArgument }
      let isPlanned = unit.planFailure(
        error, of: requester, after: arguments.nth, deviceTLBOnly: isOfDeviceTLB)
      guard isPlanned else { throw Errno.noSpace }
    }
  }
}

extension BoundDevice {
  fileprivate var vtdUnit: VTdUnit? { (device.driver as? VTdDriver)?.unit }

  func forgetPlannedFailures() { vtdUnit?.removePlannedFailures(of: device.requesterID) }
}

extension VTdInvalidationError {
  init?(bit: UInt32) {
    switch bit {
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE.rawValue: self = .completion
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE.rawValue: self = .timeout
    case IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE.rawValue: self = .queue
    default: return nil
    }
  }

  var bit: UInt32 {
    switch self {
    case .completion: IOMMUFD_SIM_VTD_S1_INVALIDATE_ICE.rawValue
    case .timeout: IOMMUFD_SIM_VTD_S1_INVALIDATE_ITE.rawValue
    case .queue: IOMMUFD_SIM_VTD_S1_INVALIDATE_IQE.rawValue
    }
  }
}
