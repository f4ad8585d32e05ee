// Package dynamostore keeps apps, keys and sessions in one table of DynamoDB.
package dynamostore
