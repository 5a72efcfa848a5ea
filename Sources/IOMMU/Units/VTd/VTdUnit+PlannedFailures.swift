// SPDX-License-Identifier: Apache-2.0

// Invalidations that are planned to fail: a test plans that the n-th invalidation for a function is
// not performed, and which bit of the fault status register reports the failure (VT-d §11.4.7.1).
// The invalidation functions of the unit never fail. A caller whose invalidation can fail first
// calls `plannedFailure(of:)`.

internal import Synchronization

/// An error that FSTS_REG reports for the invalidation queue.
package enum VTdInvalidationError: Sendable {
  /// ICE: the completion of a device-TLB invalidation was invalid or came from another function.
  case completion
  /// ITE: the completion did not arrive in time.
  case timeout
  /// IQE: the unit did not take the descriptor from the queue.
  case queue
}

/// An invalidation in the invalidation queue, with the functions that it affects.
package enum VTdQueuedInvalidation: Sendable {
  case deviceTLB(RequesterID)
  /// An IOTLB invalidation for tables that these functions use.
  case iotlb([RequesterID])

  fileprivate func affects(_ requester: RequesterID) -> Bool {
    switch self {
    case .deviceTLB(let function): function == requester
    case .iotlb(let functions): functions.contains(requester)
    }
  }

  fileprivate var isDeviceTLB: Bool {
    if case .deviceTLB = self { true } else { false }
  }
}

/// A plan that one invalidation fails.
struct PlannedInvalidationFailure {
  let requester: RequesterID
  let error: VTdInvalidationError
  /// Whether only device-TLB invalidations count.
  let deviceTLBOnly: Bool
  /// The number of invalidations up to and including the one that fails.
  var remaining: UInt32
}

extension VTdUnit {
  /// The maximum number of plans for one function.
  package static let plannedFailureLimit = 64

  /// Plans that an invalidation for a function fails.
  /// - Parameters:
  ///   - count: 1 for the next invalidation.
  ///   - deviceTLBOnly: whether IOTLB invalidations do not count.
  /// - Returns: `false` when the function has too many plans.
  package func planFailure(
    _ error: VTdInvalidationError, of requester: RequesterID, after count: UInt32,
    deviceTLBOnly: Bool
  ) -> Bool {
    plannedFailures.withLock { plans in
      guard plans.count(where: { $0.requester == requester }) < Self.plannedFailureLimit else {
        return false
      }
      plans.append(
        PlannedInvalidationFailure(
          requester: requester, error: error, deviceTLBOnly: deviceTLBOnly,
          remaining: max(count, 1)))
      return true
    }
  }

  package func removePlannedFailures(of requester: RequesterID) {
    plannedFailures.withLock { $0.removeAll { $0.requester == requester } }
  }

  /// Counts `invalidation` in all plans that it affects.
  /// - Returns: the planned error and the function it was planned for, or `nil` when the
  ///   invalidation succeeds.
  package func plannedFailure(
    of invalidation: VTdQueuedInvalidation
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    plannedFailures.withLock { plans in
      for index in plans.indices where invalidation.affects(plans[index].requester) {
        if plans[index].deviceTLBOnly && !invalidation.isDeviceTLB { continue }
        plans[index].remaining -= 1
      }
      // When several plans name the same invalidation, the oldest plan decides.
      guard let due = plans.first(where: { $0.remaining == 0 }) else { return nil }
      plans.removeAll { $0.remaining == 0 }
      return (due.error, due.requester)
    }
  }
}
