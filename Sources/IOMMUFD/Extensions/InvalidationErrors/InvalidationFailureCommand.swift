// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// IOMMUFD_SIM_VTD_INVALIDATE_FAIL: plans which invalidation of a device's VT-d unit will fail, and
/// with which error. It is for tests: no emulated device fails to complete an invalidation by
/// itself.
enum InvalidationFailureCommand {
  static let handler = IoctlHandler(.simVTdInvalidateFail, execute)

  private static func execute(
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
        // ICE and ITE are errors of a device's completion, which only device-TLB invalidations
        // have.
        isOfDeviceTLB
          || arguments.operation == IOMMUFD_SIM_VTD_OPERATION_QUEUE.rawValue && error == .queue
      else { throw Errno.invalidArgument }
      let isPlanned = unit.planFailure(
        error, of: requester, after: arguments.nth, deviceTLBOnly: isOfDeviceTLB)
      guard isPlanned else { throw Errno.noSpace }
    }
  }
}
